-- Fleets: projects whose rounds are tasks for devices, the devices themselves, and what they report.
CREATE TABLE fleets (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL UNIQUE,
    terms BLOB NOT NULL, -- JSON
    owner TEXT NOT NULL, -- an account or a key; empty: the owner of this node
    state TEXT NOT NULL,
    counted INTEGER NOT NULL, -- rounds that are complete
    created DOUBLE PRECISION NOT NULL
);
CREATE TABLE fleet_devices (
    account INTEGER PRIMARY KEY REFERENCES accounts (id) ON DELETE CASCADE,
    samples INTEGER NOT NULL UNIQUE, -- no two devices have the same shard
    fleet INTEGER REFERENCES fleets (id) ON DELETE SET NULL,
    wake BLOB NOT NULL, -- JSON: how it is woken; empty: it listens by itself
    reported DOUBLE PRECISION, -- the last report
    plugged INTEGER,
    level DOUBLE PRECISION,
    eligible INTEGER
);
CREATE INDEX fleet_devices_of ON fleet_devices (fleet);
CREATE TABLE fleet_rounds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    fleet INTEGER NOT NULL REFERENCES fleets (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    checkpoint TEXT NOT NULL, -- with which it begins
    task TEXT NOT NULL, -- once devices were asked, or empty
    created DOUBLE PRECISION NOT NULL,
    started DOUBLE PRECISION,
    stopped DOUBLE PRECISION,
    UNIQUE (fleet, number)
);
CREATE TABLE fleet_asked (
    round INTEGER NOT NULL REFERENCES fleet_rounds (id) ON DELETE CASCADE,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    PRIMARY KEY (round, account)
);
CREATE TABLE fleet_reports (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    at DOUBLE PRECISION NOT NULL,
    round INTEGER REFERENCES fleet_rounds (id) ON DELETE CASCADE, -- that it says to be done with, if any
    plugged INTEGER,
    level DOUBLE PRECISION,
    eligible INTEGER,
    version INTEGER NOT NULL, -- of its app
    bucket INTEGER NOT NULL -- Android's app standby bucket
);
CREATE INDEX fleet_reports_by_time ON fleet_reports (at);
CREATE INDEX fleet_reports_of ON fleet_reports (account, at);
CREATE TABLE fleet_results (
    round INTEGER NOT NULL REFERENCES fleet_rounds (id) ON DELETE CASCADE,
    account INTEGER NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    filename TEXT NOT NULL,
    data BLOB NOT NULL, -- JSON
    PRIMARY KEY (round, account, filename)
);
