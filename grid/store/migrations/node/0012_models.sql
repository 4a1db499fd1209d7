-- Models, their variants, and the checkpoints of these; and what their owners let others do with them.
CREATE TABLE models (
    name TEXT PRIMARY KEY,
    owner TEXT NOT NULL, -- an account or a key; empty: the owner of this node
    details TEXT NOT NULL,
    canonical TEXT NOT NULL, -- the variant to begin with, or empty
    created DOUBLE PRECISION NOT NULL
);
CREATE TABLE model_variants (
    model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE,
    name TEXT NOT NULL,
    details TEXT NOT NULL,
    hyperparameters BLOB NOT NULL, -- JSON: text to text
    canonical TEXT NOT NULL, -- the checkpoint to begin with, or empty
    upgrade TEXT NOT NULL, -- the variant that takes its place, or empty
    created DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (model, name)
);
CREATE TABLE model_checkpoints (
    number INTEGER PRIMARY KEY AUTOINCREMENT, -- what comes later has the greater one: ranges are by it
    model TEXT NOT NULL,
    variant TEXT NOT NULL,
    name TEXT NOT NULL,
    digest TEXT NOT NULL, -- of its file, or empty: it lies behind the link
    size INTEGER NOT NULL,
    link TEXT NOT NULL,
    info BLOB NOT NULL, -- JSON: text to text
    created DOUBLE PRECISION NOT NULL,
    UNIQUE (model, variant, name),
    FOREIGN KEY (model, variant) REFERENCES model_variants (model, name) ON DELETE CASCADE
);
CREATE INDEX model_checkpoints_by_file ON model_checkpoints (digest);
CREATE TABLE model_rules (
    model TEXT NOT NULL REFERENCES models (name) ON DELETE CASCADE,
    subject TEXT NOT NULL, -- an account or a key, a group with @ before it, or *
    sees INTEGER NOT NULL,
    commits INTEGER NOT NULL,
    opens INTEGER NOT NULL,
    most INTEGER NOT NULL,
    PRIMARY KEY (model, subject)
);
