-- The round with whose model an update began, where that is an earlier one than the round that counts it; 0: the same.
ALTER TABLE assignments ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
