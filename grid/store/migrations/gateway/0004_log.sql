-- The transparency log: which key was listed under which name, and which were revoked. Rows are only ever added.

CREATE TABLE log (
    position INTEGER PRIMARY KEY, -- from 0, without a gap
    entry BLOB NOT NULL -- MessagePack of a LogEntry, the bytes that the tree hashes
);
