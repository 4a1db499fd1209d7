-- Requests for access, the gates of datasets, and the log of decisions.
CREATE TABLE requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account TEXT NOT NULL,
    dataset TEXT NOT NULL,
    kind TEXT NOT NULL,
    likeness TEXT NOT NULL, -- of trainings: see protocol.request
    state TEXT NOT NULL,
    run TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    record BLOB NOT NULL, -- JSON of the request
    evidence BLOB NOT NULL -- JSON of what was known of it when it was made, and measured since
);
CREATE INDEX requests_by_account ON requests (account, state);
CREATE INDEX requests_by_dataset ON requests (dataset, kind, state);
CREATE TABLE gates (
    dataset TEXT PRIMARY KEY REFERENCES datasets (name) ON DELETE CASCADE,
    setting BLOB NOT NULL -- JSON
);
CREATE TABLE audit_log (
    number INTEGER PRIMARY KEY,
    signed BLOB NOT NULL -- MessagePack of a signed document
);
