-- What this node revealed of a secure sum, written before it was sent: of each round one set of survivors, never two.

CREATE TABLE reveals (
    run TEXT NOT NULL,
    round BIGINT NOT NULL,
    node TEXT NOT NULL,
    survivors BLOB NOT NULL, -- JSON of their keys, sorted
    PRIMARY KEY (run, round, node)
);
