-- Calls that came in letters and were answered, until nobody takes the letter in any more.

CREATE TABLE answered (
    letter TEXT PRIMARY KEY, -- SHA-256 of the envelope
    expires DOUBLE PRECISION NOT NULL
);
CREATE INDEX answered_by_expiry ON answered (expires);
