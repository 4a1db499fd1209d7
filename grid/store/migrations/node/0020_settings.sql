-- What was set while the node ran, and holds after a restart.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value BLOB NOT NULL -- JSON
);
