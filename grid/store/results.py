"""What rounds leave behind at a coordinator: checkpoints, and reports on how they do."""

from __future__ import annotations

import sqlite3

import msgspec
from msgspec import Struct


class Checkpoint(Struct, frozen=True):
    """The model after round `round` (0: as the run began): its file, SHA-256 and size in bytes."""

    run: str
    round: int
    file: str
    digest: str
    size: int


class ReportRow(Struct, frozen=True):
    """How the model of round `round` did on the `examples` that `node` held out."""

    run: str
    round: int
    node: str
    examples: int
    metrics: dict[str, float]
    at: float


def add_checkpoint(connection: sqlite3.Connection, c: Checkpoint) -> None:
    """Keep the checkpoint of a round, whose file is on disk; made again, it takes the place of the first."""
    connection.execute(
        """
        INSERT INTO checkpoints (run, role, round, file, digest, bytes) VALUES (?, 'coordinator', ?, ?, ?, ?)
        ON CONFLICT (run, role, round) DO UPDATE SET
            file = excluded.file, digest = excluded.digest, bytes = excluded.bytes
        """,
        (c.run, c.round, c.file, c.digest, c.size),
    )


def checkpoints(connection: sqlite3.Connection, run: str) -> list[Checkpoint]:
    """All checkpoints of a run, the first one first."""
    rows = connection.execute(
        "SELECT run, round, file, digest, bytes FROM checkpoints WHERE run = ? ORDER BY round", (run,)
    )
    return [Checkpoint(*row) for row in rows]


def latest_checkpoint(connection: sqlite3.Connection, run: str) -> Checkpoint | None:
    """The newest checkpoint of a run, if there is one."""
    return next(reversed(checkpoints(connection, run)), None)


def add_report(connection: sqlite3.Connection, r: ReportRow) -> None:
    """Keep a report; a second one of the same node takes the place of the first."""
    connection.execute(
        """
        INSERT INTO reports (run, role, round, node, examples, metrics, at) VALUES (?, 'coordinator', ?, ?, ?, ?, ?)
        ON CONFLICT (run, role, round, node) DO UPDATE SET
            examples = excluded.examples, metrics = excluded.metrics, at = excluded.at
        """,
        (r.run, r.round, r.node, r.examples, msgspec.json.encode(r.metrics), r.at),
    )


def reports(connection: sqlite3.Connection, run: str) -> list[ReportRow]:
    """All reports of a run, by round and node."""
    rows = connection.execute(
        "SELECT run, round, node, examples, metrics, at FROM reports WHERE run = ? ORDER BY round, node", (run,)
    )
    return [
        ReportRow(run, number, node, examples, msgspec.json.decode(metrics, type=dict[str, float]), at)
        for run, number, node, examples, metrics, at in rows
    ]
