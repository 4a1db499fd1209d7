-- Projects that this node coordinates or has joined. It can be both for one project.
CREATE TABLE projects (
    id TEXT NOT NULL,
    role TEXT NOT NULL, -- coordinator or participant
    name TEXT NOT NULL,
    document BLOB NOT NULL, -- the coordinator's signed document, as it was signed
    address TEXT NOT NULL, -- the coordinator's, for a participant
    open INTEGER NOT NULL, -- 1: whoever asks may join
    created DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (id, role)
);

-- Who may join a project, and who did: then there is the membership that the site signed.
CREATE TABLE project_members (
    project TEXT NOT NULL,
    public_key TEXT NOT NULL,
    membership BLOB,
    PRIMARY KEY (project, public_key)
);

CREATE TABLE batches (
    project TEXT NOT NULL,
    number INTEGER NOT NULL,
    tasks INTEGER NOT NULL,
    task INTEGER NOT NULL,
    run TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    created DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (project, number)
);

CREATE TABLE batch_runs (
    run TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    batch INTEGER NOT NULL,
    task INTEGER NOT NULL,
    created DOUBLE PRECISION NOT NULL
);
CREATE INDEX batch_runs_by_batch ON batch_runs (project, batch, created);
