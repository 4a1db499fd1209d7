-- Where this node relays: mailboxes and the letters in them. A letter's bytes are in the event that tells of it, or in a file.

CREATE TABLE mailboxes (
    name TEXT PRIMARY KEY,
    prekey BLOB NOT NULL, -- what letters are sealed to, signed by the holder
    opened DOUBLE PRECISION NOT NULL -- when its holder last said so
);

CREATE TABLE letters (
    mailbox TEXT NOT NULL,
    id TEXT NOT NULL, -- SHA-256 of the envelope
    sender TEXT NOT NULL, -- public key
    size BIGINT NOT NULL,
    expires DOUBLE PRECISION NOT NULL,
    cursor BIGINT, -- of the event that tells of it; NULL: taken, and kept in mind until it expires
    PRIMARY KEY (mailbox, id)
);
CREATE INDEX letters_by_expiry ON letters (expires);
