-- What a node keeps: events, datasets, keys, runs.

CREATE TABLE events (
    cursor INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, -- never used again, even after the newest was pruned
    topic TEXT NOT NULL,
    kind TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    data BLOB NOT NULL
);
CREATE INDEX events_by_topic ON events (topic, cursor);

CREATE TABLE datasets (
    name TEXT PRIMARY KEY,
    digest TEXT NOT NULL, -- of its file of tensors
    bytes BIGINT NOT NULL,
    private INTEGER NOT NULL, -- 1: not advertised
    info BLOB NOT NULL -- JSON of the DatasetInfo that is told about it
);

CREATE TABLE prekeys (
    id BLOB PRIMARY KEY,
    secret BLOB NOT NULL,
    published BLOB NOT NULL, -- the public half, signed
    valid_from DOUBLE PRECISION NOT NULL,
    valid_until DOUBLE PRECISION NOT NULL
);

CREATE TABLE tokens (
    hash TEXT PRIMARY KEY, -- SHA-256: whoever reads this file cannot use it
    label TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL
);

-- Whose key was first seen behind a name or an address.
CREATE TABLE pins (
    name TEXT PRIMARY KEY,
    public_key TEXT NOT NULL,
    pinned DOUBLE PRECISION NOT NULL
);

-- Who may train here.
CREATE TABLE trusted (
    public_key TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    since DOUBLE PRECISION NOT NULL
);

-- A node can be both coordinator and participant of one run. Rounds, checkpoints and reports are the
-- coordinator's; the role stands in them for the foreign key.
CREATE TABLE runs (
    id TEXT NOT NULL,
    role TEXT NOT NULL,
    task BLOB NOT NULL, -- the scientist's signed document, as it was signed
    owner TEXT NOT NULL,
    bundle TEXT NOT NULL, -- digest
    peer TEXT NOT NULL, -- the coordinator's address, for a participant
    rounds INTEGER NOT NULL,
    round INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    ended DOUBLE PRECISION,
    PRIMARY KEY (id, role)
);
CREATE INDEX runs_by_state ON runs (role, state);

CREATE TABLE rounds (
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    number INTEGER NOT NULL,
    policy BLOB NOT NULL, -- JSON
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    opened DOUBLE PRECISION NOT NULL,
    ends DOUBLE PRECISION NOT NULL,
    closed DOUBLE PRECISION,
    summary BLOB NOT NULL, -- JSON: bytes, seconds, mean metrics
    PRIMARY KEY (run, role, number),
    FOREIGN KEY (run, role) REFERENCES runs (id, role) ON DELETE CASCADE
);

CREATE TABLE assignments (
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    round INTEGER NOT NULL,
    node TEXT NOT NULL, -- public key
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    weight DOUBLE PRECISION NOT NULL,
    file TEXT NOT NULL, -- of the update: digest, or name
    metrics BLOB NOT NULL, -- JSON
    place INTEGER NOT NULL, -- in the order in which updates were accepted, from 1
    PRIMARY KEY (run, role, round, node), -- one row for each: no update is counted twice
    FOREIGN KEY (run, role) REFERENCES runs (id, role) ON DELETE CASCADE
);

CREATE TABLE checkpoints (
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    round INTEGER NOT NULL, -- after which it was made; 0: as the run began
    file TEXT NOT NULL,
    digest TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (run, role, round),
    FOREIGN KEY (run, role) REFERENCES runs (id, role) ON DELETE CASCADE
);

-- How a model did on a participant's held-out examples.
CREATE TABLE reports (
    run TEXT NOT NULL,
    role TEXT NOT NULL,
    round INTEGER NOT NULL, -- whose model was measured
    node TEXT NOT NULL,
    examples BIGINT NOT NULL,
    metrics BLOB NOT NULL, -- JSON
    at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (run, role, round, node),
    FOREIGN KEY (run, role) REFERENCES runs (id, role) ON DELETE CASCADE
);
