-- The record of sites, projects and runs: who takes part in what, and how far it is. What they learn from, or have
-- learned, is never in it.

-- Who may call with a name and a password.
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    salt BLOB NOT NULL,
    hash BLOB NOT NULL, -- scrypt of the password
    created DOUBLE PRECISION NOT NULL
);

CREATE TABLE sites (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    owner TEXT NOT NULL, -- an account's name
    connected INTEGER NOT NULL,
    heard DOUBLE PRECISION NOT NULL, -- when it last said that it is there
    created DOUBLE PRECISION NOT NULL,
    updated DOUBLE PRECISION NOT NULL
);

CREATE TABLE consortia (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    tasks BLOB NOT NULL, -- JSON, as its coordinator wrote it
    created DOUBLE PRECISION NOT NULL,
    updated DOUBLE PRECISION NOT NULL
);

CREATE TABLE parties (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL REFERENCES consortia (id) ON DELETE CASCADE,
    site INTEGER NOT NULL REFERENCES sites (id),
    coordinates INTEGER NOT NULL,
    notes TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    updated DOUBLE PRECISION NOT NULL,
    UNIQUE (project, site)
);
CREATE UNIQUE INDEX one_coordinator ON parties (project) WHERE coordinates = 1;

-- A run as all who take part share it; and each one's part in its present round.
CREATE TABLE shared_runs (
    project INTEGER NOT NULL REFERENCES consortia (id) ON DELETE CASCADE,
    batch INTEGER NOT NULL,
    rounds INTEGER NOT NULL,
    round INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    tasks BLOB NOT NULL, -- JSON, as they were when it began
    PRIMARY KEY (project, batch)
);

CREATE TABLE run_parts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    project INTEGER NOT NULL,
    batch INTEGER NOT NULL,
    party INTEGER NOT NULL REFERENCES parties (id),
    round INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    updated DOUBLE PRECISION NOT NULL,
    FOREIGN KEY (project, batch) REFERENCES shared_runs (project, batch) ON DELETE CASCADE,
    UNIQUE (project, batch, party)
);

-- Sealed envelopes that were left with a part of a run; their bytes are files.
CREATE TABLE deposits (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    part INTEGER NOT NULL REFERENCES run_parts (id) ON DELETE CASCADE,
    kind TEXT NOT NULL, -- artifacts, mid_artifacts or logs
    task INTEGER NOT NULL,
    round INTEGER NOT NULL,
    file TEXT NOT NULL, -- SHA-256
    size BIGINT NOT NULL,
    created DOUBLE PRECISION NOT NULL
);
CREATE INDEX deposits_by_part ON deposits (part, kind);
