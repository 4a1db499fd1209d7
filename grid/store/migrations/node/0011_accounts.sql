-- People at this node. Preset roles are in the program; those that somebody made begin with number 101.
CREATE TABLE roles (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    rights TEXT NOT NULL -- JSON
);
INSERT INTO sqlite_sequence (name, seq) VALUES ('roles', 100);
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    email TEXT NOT NULL,
    password TEXT NOT NULL, -- Argon2id of it, or empty: it has none
    role INTEGER NOT NULL,
    created DOUBLE PRECISION NOT NULL
);
CREATE TABLE account_keys (
    public_key TEXT PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    added DOUBLE PRECISION NOT NULL
);
CREATE TABLE groups (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE group_accounts (
    group_id INTEGER NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    account_id INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, account_id)
);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    secret BLOB NOT NULL, -- SHA-256 of what its next refresh has to say
    created DOUBLE PRECISION NOT NULL,
    used DOUBLE PRECISION NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    place TEXT NOT NULL
);

-- Groups of keys, as budgets had them, become groups of accounts.
INSERT INTO accounts (name, email, password, role, created)
    SELECT DISTINCT 'key-' || substr(account, 1, 12), '', '', 1, 0 FROM budget_groups;
INSERT INTO account_keys (public_key, account, added)
    SELECT DISTINCT b.account, a.id, 0 FROM budget_groups b JOIN accounts a ON a.name = 'key-' || substr(b.account, 1, 12);
INSERT INTO groups (name) SELECT DISTINCT name FROM budget_groups;
INSERT INTO group_accounts (group_id, account_id)
    SELECT g.id, k.account FROM budget_groups b JOIN groups g ON g.name = b.name
    JOIN account_keys k ON k.public_key = b.account;
DROP TABLE budget_groups;
