-- Associations of nodes and networks: the record as it is now, and the proposal that it began with.
CREATE TABLE associations (
    id TEXT PRIMARY KEY, -- SHA-256 of the proposal
    peer TEXT NOT NULL,
    state TEXT NOT NULL,
    changed DOUBLE PRECISION NOT NULL,
    record BLOB NOT NULL, -- JSON
    proposal BLOB NOT NULL -- MessagePack of the signed document
);
CREATE INDEX associations_by_peer ON associations (peer, state);

-- What statistics count, among all that happened.
CREATE INDEX trained_events ON events (at) WHERE kind = 'trained';
