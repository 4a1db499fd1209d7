-- Accounts as nodes have them, too: with roles, keys and sessions; and passwords as Argon2id, once they are used again.
CREATE TABLE roles (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    rights TEXT NOT NULL -- JSON
);
INSERT INTO sqlite_sequence (name, seq) VALUES ('roles', 100);
ALTER TABLE accounts ADD COLUMN role INTEGER NOT NULL DEFAULT 5;
ALTER TABLE accounts ADD COLUMN password TEXT NOT NULL DEFAULT '';
UPDATE accounts SET password = '$scrypt$' || hex(salt) || '$' || hex(hash);
ALTER TABLE accounts DROP COLUMN salt;
ALTER TABLE accounts DROP COLUMN hash;
CREATE TABLE account_keys (
    public_key TEXT PRIMARY KEY,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    added DOUBLE PRECISION NOT NULL
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
