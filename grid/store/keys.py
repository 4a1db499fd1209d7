"""What a node knows of keys: its own prekeys, its owner's tokens, the keys of others.

Tokens are random and long, so a plain SHA-256 of them is kept, and nothing that opens the node.
"""

from __future__ import annotations

import hashlib
import sqlite3

from msgspec import Struct

from grid.protocol.pins import Pin
from grid.store.schema import Transaction
from grid.wire.node import Trust


class StoredPrekey(Struct, frozen=True):
    """A prekey with its secret half and the half that was published; valid between two moments (UTC seconds)."""

    id: bytes
    secret: bytes
    published: bytes
    valid_from: float
    valid_until: float

    def __repr__(self) -> str:
        return f"StoredPrekey({self.id.hex()})"


# --- our own prekeys ----------------------------------------------------------------------------


def add_prekey(connection: sqlite3.Connection, prekey: StoredPrekey) -> None:
    """Keep a new prekey; it must be on disk before it is published."""
    connection.execute(
        "INSERT INTO prekeys (id, secret, published, valid_from, valid_until) VALUES (?, ?, ?, ?, ?)",
        (prekey.id, prekey.secret, prekey.published, prekey.valid_from, prekey.valid_until),
    )


def all_prekeys(connection: sqlite3.Connection) -> list[StoredPrekey]:
    """All that are kept, the newest first."""
    rows = connection.execute(
        "SELECT id, secret, published, valid_from, valid_until FROM prekeys ORDER BY valid_from DESC, id"
    )
    return [StoredPrekey(*row) for row in rows]


def erase_prekeys(connection: Transaction, before: float) -> int:
    """Erase those whose validity ended before a time; how many. Nothing of them stays in the file or its log."""
    erased = connection.execute("DELETE FROM prekeys WHERE valid_until < ?", (before,)).rowcount
    connection.erasing = connection.erasing or erased > 0
    return erased


# --- tokens -------------------------------------------------------------------------------------


def add_token(connection: sqlite3.Connection, token: str, label: str, created: float) -> None:
    """Let the bearer of a token in. The token itself is not kept."""
    connection.execute("INSERT INTO tokens (hash, label, created) VALUES (?, ?, ?)", (_hash(token), label, created))


def token_label(connection: sqlite3.Connection, token: str) -> str | None:
    """The label of a token, None if it lets nobody in. Looked up by hash: the time it takes tells nothing."""
    row = connection.execute("SELECT label FROM tokens WHERE hash = ?", (_hash(token),)).fetchone()
    return row[0] if row else None


def revoke_tokens(connection: sqlite3.Connection, label: str) -> int:
    """No longer let the bearers of tokens with this label in; how many there were."""
    return connection.execute("DELETE FROM tokens WHERE label = ?", (label,)).rowcount


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


# --- the keys of others -------------------------------------------------------------------------


def pinned(connection: sqlite3.Connection, name: str) -> Pin | None:
    """What is known of a node id or address."""
    row = connection.execute("SELECT name, public_key, pinned, seen, how FROM pins WHERE name = ?", (name,)).fetchone()
    return Pin(*row) if row else None


def pin(connection: sqlite3.Connection, known: Pin) -> None:
    """Know a node id or address by this key, in place of any other."""
    connection.execute(
        "INSERT OR REPLACE INTO pins (name, public_key, pinned, seen, how) VALUES (?, ?, ?, ?, ?)",
        (known.name, known.public_key, known.first_seen, known.last_seen, known.how),
    )


def move_pins(connection: sqlite3.Connection, old: str, new: str) -> int:
    """Whatever was known by the old key is known by the new one; how many names."""
    return connection.execute("UPDATE pins SET public_key = ? WHERE public_key = ?", (new, old)).rowcount


def unpin(connection: sqlite3.Connection, name: str) -> bool:
    """Forget the key of a node id or address; whether there was one."""
    return connection.execute("DELETE FROM pins WHERE name = ?", (name,)).rowcount > 0


def pins(connection: sqlite3.Connection) -> list[Pin]:
    """All pins in order of name."""
    rows = connection.execute("SELECT name, public_key, pinned, seen, how FROM pins ORDER BY name")
    return [Pin(*row) for row in rows]


def knows(connection: sqlite3.Connection, public_key: str) -> bool:
    """Whether a key is trusted here, or that of a peer."""
    found = "SELECT 1 FROM trusted WHERE public_key = ?1 UNION ALL SELECT 1 FROM pins WHERE public_key = ?1"
    return connection.execute(found, (public_key,)).fetchone() is not None


def trust(connection: sqlite3.Connection, who: Trust, at: float) -> None:
    """Let the holder of a key train here; a second time, under the new name."""
    connection.execute(
        "INSERT INTO trusted (public_key, name, since) VALUES (?, ?, ?)"
        " ON CONFLICT (public_key) DO UPDATE SET name = excluded.name",
        (who.public_key, who.name, at),
    )


def distrust(connection: sqlite3.Connection, public_key: str) -> bool:
    """No longer let the holder of a key train here; whether it could."""
    return connection.execute("DELETE FROM trusted WHERE public_key = ?", (public_key,)).rowcount > 0


def trusted(connection: sqlite3.Connection) -> list[Trust]:
    """Whose keys may train here, in the order in which they were trusted."""
    rows = connection.execute("SELECT public_key, name FROM trusted ORDER BY since, public_key")
    return [Trust(public_key=public_key, name=name) for public_key, name in rows]
