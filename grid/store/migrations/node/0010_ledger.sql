-- Privacy budgets, and what runs cost the records of a dataset: see protocol.ledger.
CREATE TABLE budgets (
    dataset TEXT NOT NULL,
    subject TEXT NOT NULL,
    epsilon REAL NOT NULL,
    delta REAL NOT NULL,
    PRIMARY KEY (dataset, subject)
);
CREATE TABLE charges (
    run TEXT NOT NULL,
    dataset TEXT NOT NULL,
    account TEXT NOT NULL,
    curve BLOB NOT NULL,
    rounds INTEGER NOT NULL,
    used INTEGER NOT NULL,
    state TEXT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (run, dataset)
);
CREATE INDEX charges_of ON charges (dataset, account);
CREATE TABLE budget_groups (
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    PRIMARY KEY (name, account)
);
