-- Who may find, read and train on which dataset or tensor: see protocol.permission. `private` becomes a visibility.
ALTER TABLE datasets ADD COLUMN visibility TEXT NOT NULL DEFAULT 'private';
UPDATE datasets SET visibility = 'hidden' WHERE private = 1;
ALTER TABLE datasets DROP COLUMN private;
ALTER TABLE datasets ADD COLUMN mock TEXT NOT NULL DEFAULT ''; -- digest of a file of tensors that nobody is in
CREATE TABLE permissions (
    dataset TEXT NOT NULL REFERENCES datasets (name) ON DELETE CASCADE,
    subject TEXT NOT NULL, -- user, group or tensor
    name TEXT NOT NULL,
    tensor TEXT NOT NULL, -- empty: all of it
    action TEXT NOT NULL,
    allow INTEGER NOT NULL,
    PRIMARY KEY (dataset, subject, name, tensor, action)
);
