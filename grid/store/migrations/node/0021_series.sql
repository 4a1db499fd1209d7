-- Series of rounds for devices that come by, and the devices that have introduced themselves.
CREATE TABLE series (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    owner TEXT NOT NULL, -- an account or a key; empty: the owner of this node
    terms BLOB NOT NULL, -- JSON
    words BLOB NOT NULL, -- JSON: what its devices are told, and the names of its files
    trust BLOB NOT NULL, -- JSON: whose word opens it to a device; empty: everybody's
    state TEXT NOT NULL,
    counted INTEGER NOT NULL, -- rounds that are complete
    number INTEGER NOT NULL, -- of the newest round
    stage TEXT NOT NULL,
    reason TEXT NOT NULL,
    checkpoint TEXT NOT NULL, -- with which that round begins
    created DOUBLE PRECISION NOT NULL,
    UNIQUE (name, version)
);
CREATE TABLE series_devices (
    name TEXT PRIMARY KEY, -- made of the secret that it shows
    series INTEGER NOT NULL REFERENCES series (id) ON DELETE CASCADE,
    last INTEGER, -- the round that it took part in
    created DOUBLE PRECISION NOT NULL
);
CREATE INDEX series_devices_of ON series_devices (series);
