"""Rows of transparency logs: a gateway's own, and what a node followed of others'."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping

import msgspec

from grid.protocol.transparency import Followed

# --- a gateway's own ----------------------------------------------------------------------------


def append(connection: sqlite3.Connection, first: int, entries: Iterable[bytes]) -> None:
    """Add entries from position `first` on; IntegrityError if one is there already."""
    rows = list(enumerate(entries, first))
    connection.executemany("INSERT INTO log (position, entry) VALUES (?, ?)", rows)


def entries(connection: sqlite3.Connection, after: int = 0, limit: int = -1) -> list[bytes]:
    """Entries from position `after` on, all of them if no limit is given."""
    rows = connection.execute("SELECT entry FROM log WHERE position >= ? ORDER BY position LIMIT ?", (after, limit))
    return [entry for (entry,) in rows]


# --- what a node followed -----------------------------------------------------------------------


def followed(connection: sqlite3.Connection, gateway: str) -> tuple[Followed | None, str]:
    """The log of a gateway as far as it was followed, and what is wrong with it."""
    row = connection.execute("SELECT followed, alarm FROM logs WHERE gateway = ?", (gateway,)).fetchone()
    return (msgspec.msgpack.decode(row[0], type=Followed), row[1]) if row else (None, "")


def keep(connection: sqlite3.Connection, gateway: str, log: Followed, alarm: str = "") -> None:
    """The log of a gateway was followed so far. What was found wrong stays until it is forgotten."""
    connection.execute(
        "INSERT INTO logs (gateway, followed, alarm) VALUES (?, ?, ?) ON CONFLICT (gateway) DO UPDATE SET"
        " followed = excluded.followed, alarm = CASE WHEN alarm = '' THEN excluded.alarm ELSE alarm END",
        (gateway, msgspec.msgpack.encode(log), alarm),
    )


def all_followed(connection: sqlite3.Connection) -> list[Followed]:
    """All logs as far as they were followed."""
    rows = connection.execute("SELECT followed FROM logs ORDER BY gateway")
    return [msgspec.msgpack.decode(row, type=Followed) for (row,) in rows]


def alarms(connection: sqlite3.Connection) -> dict[str, str]:
    """The gateways that are not believed, and why."""
    return dict(connection.execute("SELECT gateway, alarm FROM logs WHERE alarm != '' ORDER BY gateway"))


def forget(connection: sqlite3.Connection, gateway: str) -> bool:
    """Follow the log of a gateway anew; whether it was followed."""
    return connection.execute("DELETE FROM logs WHERE gateway = ?", (gateway,)).rowcount > 0


def revoke(connection: sqlite3.Connection, keys: Mapping[str, str]) -> None:
    """Keys that are no longer believed, and why."""
    connection.executemany("INSERT OR IGNORE INTO revoked (public_key, reason) VALUES (?, ?)", list(keys.items()))


def revoked(connection: sqlite3.Connection) -> dict[str, str]:
    """All keys that are no longer believed."""
    return dict(connection.execute("SELECT public_key, reason FROM revoked ORDER BY public_key"))
