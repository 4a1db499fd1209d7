-- What those who see a model may have of it: its files, its answers, and what these cost.
CREATE TABLE hosted_models (
    model TEXT PRIMARY KEY REFERENCES models (name) ON DELETE CASCADE,
    downloads INTEGER NOT NULL,
    predicts INTEGER NOT NULL,
    most_rows INTEGER NOT NULL,
    dataset TEXT NOT NULL, -- whose budgets pay, or empty: nothing is paid
    epsilon DOUBLE PRECISION NOT NULL -- for each row that is answered for
);
