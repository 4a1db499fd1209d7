"""A node's runs: those it coordinates and those it takes part in.

Machines decide, the functions of this module, `rounds` and `results` only keep what they decided. They
join the caller's transaction, so that a change and the event that tells of it are on disk together.
"""

from __future__ import annotations

import sqlite3
from typing import Literal

from msgspec import Struct

from grid.protocol.run import Run, State
from grid.wire.problems import RunNotFound, RunRefused

Role = Literal["coordinator", "participant"]
COORDINATOR: Role = "coordinator"
PARTICIPANT: Role = "participant"


class RunRow(Struct, frozen=True):
    """A run as it was asked for (`task`: the signed document, encoded) and where it stands.

    `owner`: public key of who asked; `bundle`: digest of the plan; `peer`: the coordinator's address,
    where this node takes part. Times are UTC seconds.
    """

    run: Run
    role: Role
    task: bytes
    owner: str
    bundle: str
    created: float
    peer: str = ""
    ended: float | None = None


_RUN = "id, rounds, round, state, reason, role, task, owner, bundle, created, peer, ended"


def create_run(connection: sqlite3.Connection, row: RunRow) -> None:
    """Keep a new run. Raises RunRefused if there is one of this id and role."""
    r = row.run
    values = (r.id, r.rounds, r.current, r.state, r.reason, row.role, row.task, row.owner, row.bundle)
    try:
        connection.execute(
            f"INSERT INTO runs ({_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            (*values, row.created, row.peer, row.ended),
        )
    except sqlite3.IntegrityError:
        raise RunRefused(f"a run {r.id} is already here") from None


def get_run(connection: sqlite3.Connection, run: str, role: Role = COORDINATOR) -> RunRow:
    """One run. Raises RunNotFound."""
    row = connection.execute(f"SELECT {_RUN} FROM runs WHERE id = ? AND role = ?", (run, role)).fetchone()  # noqa: S608
    if row is None:
        raise RunNotFound
    return _run_row(*row)


def list_runs(connection: sqlite3.Connection, role: Role = COORDINATOR, *, unfinished: bool = False) -> list[RunRow]:
    """The runs in which this node has a role, newest first; `unfinished`: those that have not ended."""
    rows = connection.execute(
        f"SELECT {_RUN} FROM runs WHERE role = ? AND (? = 0 OR ended IS NULL) ORDER BY created DESC, id",  # noqa: S608
        (role, int(unfinished)),
    )
    return [_run_row(*row) for row in rows]


def set_run_state(
    connection: sqlite3.Connection, run: Run, role: Role = COORDINATOR, *, ended: float | None = None
) -> None:
    """Where a run stands now. Raises RunNotFound."""
    changed = connection.execute(
        "UPDATE runs SET state = ?, round = ?, reason = ?, ended = ? WHERE id = ? AND role = ?",
        (run.state, run.current, run.reason, ended, run.id, role),
    )
    if not changed.rowcount:
        raise RunNotFound


def delete_run(connection: sqlite3.Connection, run: str, role: Role = COORDINATOR) -> None:
    """Forget a run and all that belongs to it; its files are the caller's to delete."""
    connection.execute("DELETE FROM runs WHERE id = ? AND role = ?", (run, role))


def _run_row(
    run: str, rounds: int, current: int, state: str, reason: str, role: Role, task: bytes, owner: str, *rest: object
) -> RunRow:
    where = Run(run, rounds, current, State(state), reason)
    return RunRow(where, role, task, owner, *rest)  # type: ignore[arg-type]
