-- Members and the events that tell of them.

CREATE TABLE events (
    cursor INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- never used again, even after the newest was pruned
    topic TEXT NOT NULL,
    kind TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX events_by_topic ON events (topic, cursor);

CREATE TABLE members (
    node_id TEXT PRIMARY KEY,
    address TEXT NOT NULL,
    record BLOB, -- what the node signed, as it signed it; NULL: it proved nothing
    prekey BLOB,
    state TEXT NOT NULL,
    lease_ends DOUBLE PRECISION NOT NULL,
    last_answer DOUBLE PRECISION,
    latency DOUBLE PRECISION,
    failures INTEGER NOT NULL
);

-- Ids that a key may take again, with a record newer than this version.
CREATE TABLE reserved (
    node_id TEXT PRIMARY KEY,
    signer TEXT NOT NULL,
    version BIGINT NOT NULL,
    until DOUBLE PRECISION NOT NULL
);
