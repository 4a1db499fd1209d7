"""What was set while a node ran, and holds after a restart."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec

from grid.store.schema import Transaction


def get(connection: sqlite3.Connection, name: str) -> Any:
    """A setting, as JSON has it; None if nothing was set."""
    row = connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).fetchone()
    return None if row is None else msgspec.json.decode(row[0])


def put(connection: Transaction, name: str, value: Any) -> None:
    """Set it."""
    connection.execute(
        "INSERT OR REPLACE INTO settings (name, value) VALUES (?, ?)", (name, msgspec.json.encode(value))
    )
