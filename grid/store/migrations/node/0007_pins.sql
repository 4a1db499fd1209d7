-- When a peer was last met, and whether its key was believed at first use or compared by hand.
ALTER TABLE pins ADD COLUMN seen DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE pins ADD COLUMN how TEXT NOT NULL DEFAULT 'first use';
