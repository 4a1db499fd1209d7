-- Tasks for devices: what each is for, and the jobs of those who committed to one.
CREATE TABLE tasks (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL, -- an account or a key; empty: the owner of this node
    model TEXT NOT NULL,
    variant TEXT NOT NULL,
    bundle TEXT NOT NULL, -- SHA-256 of its one file, or empty: it lies behind the link
    link TEXT NOT NULL,
    strategy BLOB NOT NULL, -- JSON
    most_examples INTEGER NOT NULL, -- so much an update weighs at most
    ends DOUBLE PRECISION NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    result TEXT NOT NULL, -- the checkpoint that was made of its updates, or empty
    evaluation BLOB NOT NULL, -- JSON, or empty
    created DOUBLE PRECISION NOT NULL
);
CREATE INDEX tasks_by_model ON tasks (model, variant);
CREATE INDEX tasks_by_end ON tasks (state, ends);
CREATE TABLE task_checkpoints (
    task TEXT NOT NULL REFERENCES tasks (name) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    checkpoint TEXT NOT NULL,
    PRIMARY KEY (task, checkpoint)
);
CREATE TABLE task_jobs (
    id TEXT PRIMARY KEY,
    task TEXT NOT NULL REFERENCES tasks (name) ON DELETE CASCADE,
    client TEXT NOT NULL, -- an account or a key; empty: the owner of this node
    checkpoint TEXT NOT NULL, -- with which it begins
    ticket BLOB NOT NULL, -- SHA-256 of what it shows when it hands in
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    examples INTEGER NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    updated DOUBLE PRECISION NOT NULL
);
CREATE INDEX task_jobs_of ON task_jobs (task, client);
