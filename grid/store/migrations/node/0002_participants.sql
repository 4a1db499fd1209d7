-- What a node needs to go on with its runs after a restart.

-- Who was asked into a run that this node coordinates.
CREATE TABLE participants (
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    place INTEGER NOT NULL, -- in the order in which they were named
    public_key TEXT NOT NULL,
    node_id TEXT NOT NULL,
    address TEXT NOT NULL,
    examples BIGINT NOT NULL, -- announced by the node when it was ready
    ready INTEGER NOT NULL, -- 1: it has the plan loaded
    PRIMARY KEY (run, role, public_key),
    FOREIGN KEY (run, role) REFERENCES runs (id, role) ON DELETE CASCADE
);

ALTER TABLE runs ADD COLUMN prekey BLOB; -- the coordinator's, signed, where this node takes part
