-- The logs of gateways as far as this node followed them, what was found wrong in them, and the keys they revoked.

CREATE TABLE logs (
    gateway TEXT PRIMARY KEY, -- its address
    followed BLOB NOT NULL, -- MessagePack: the key that signs its heads, size, peaks, newest head
    alarm TEXT NOT NULL DEFAULT '' -- why it is not believed
);

CREATE TABLE revoked (
    public_key TEXT PRIMARY KEY,
    reason TEXT NOT NULL
);
