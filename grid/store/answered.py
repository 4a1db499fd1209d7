"""Which letters a node has answered: a gateway that delivers one again, after a restart too, changes nothing."""

from __future__ import annotations

import sqlite3


def has(connection: sqlite3.Connection, letter: str) -> bool:
    """Whether this letter was answered."""
    return connection.execute("SELECT 1 FROM answered WHERE letter = ?", (letter,)).fetchone() is not None


def add(connection: sqlite3.Connection, letter: str, expires: float, now: float) -> None:
    """A letter was answered that can be opened until `expires`; those whose time is over are forgotten."""
    connection.execute("DELETE FROM answered WHERE expires < ?", (now,))
    connection.execute("INSERT OR IGNORE INTO answered (letter, expires) VALUES (?, ?)", (letter, expires))
