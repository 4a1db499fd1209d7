-- When an update was counted, so that a coordinator learns how long a round takes; 0: before this was kept.
ALTER TABLE assignments ADD COLUMN at DOUBLE PRECISION NOT NULL DEFAULT 0;
