-- Which nodes have released what a held run learned from them.
CREATE TABLE releases (
    run TEXT NOT NULL,
    public_key TEXT NOT NULL,
    at DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (run, public_key)
);
