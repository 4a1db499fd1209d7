"""What a node revealed of secure sums."""

from __future__ import annotations

import sqlite3

import msgspec


def reveal(connection: sqlite3.Connection, run: str, number: int, node: str, survivors: list[str]) -> bool:
    """Keep for which survivors a node reveals its shares in a round; whether it may: not if it did for others."""
    said = msgspec.json.encode(survivors)
    connection.execute(
        "INSERT INTO reveals (run, round, node, survivors) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (run, number, node, said),
    )
    kept = connection.execute(
        "SELECT survivors FROM reveals WHERE run = ? AND round = ? AND node = ?", (run, number, node)
    )
    return bool(bytes(kept.fetchone()[0]) == said)
