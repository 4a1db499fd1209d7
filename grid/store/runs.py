"""A node's runs: those it coordinates and those it takes part in.

Machines decide, the functions of this module, `rounds` and `results` only keep what they decided. They
join the caller's transaction, so that a change and the event that tells of it are on disk together.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from grid.protocol.run import Run, State
from grid.wire.problems import RunNotFound, RunRefused

Role = Literal["coordinator", "participant"]
COORDINATOR: Role = "coordinator"
PARTICIPANT: Role = "participant"


class RunRow(Struct, frozen=True):
    """A run as it was asked for (`task`: the signed document, encoded) and where it stands.

    `owner`: public key of who asked; `bundle`: digest of the plan; `peer`, `prekey`: the coordinator's address
    and its signed prekey, where this node takes part. Times are UTC seconds.
    """

    run: Run
    role: Role
    task: bytes
    owner: str
    bundle: str
    created: float
    peer: str = ""
    ended: float | None = None
    prekey: bytes | None = None


class ParticipantRow(Struct, frozen=True):
    """A node that was asked into a run: by which key, where it answers, and what it announced when it was ready."""

    public_key: str
    node_id: str
    address: str
    examples: int = 0
    ready: bool = False


_RUN = "id, rounds, round, state, reason, role, task, owner, bundle, created, peer, ended, prekey"


def create_run(connection: sqlite3.Connection, row: RunRow) -> None:
    """Keep a new run. Raises RunRefused if there is one of this id and role."""
    r = row.run
    values = (r.id, r.rounds, r.current, r.state, r.reason, row.role, row.task, row.owner, row.bundle)
    try:
        connection.execute(
            f"INSERT INTO runs ({_RUN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            (*values, row.created, row.peer, row.ended, row.prekey),
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


def add_participants(connection: sqlite3.Connection, run: str, rows: Iterable[ParticipantRow]) -> None:
    """Keep who is asked into a run that this node coordinates, in order."""
    connection.executemany(
        """
        INSERT INTO participants (run, role, place, public_key, node_id, address, examples, ready)
        VALUES (?, 'coordinator', ?, ?, ?, ?, ?, ?)
        """,
        [(run, at, p.public_key, p.node_id, p.address, p.examples, int(p.ready)) for at, p in enumerate(rows)],
    )


def set_ready(connection: sqlite3.Connection, run: str, public_key: str, examples: int) -> None:
    """A participant has the plan loaded, and so many examples of its own."""
    connection.execute(
        "UPDATE participants SET ready = 1, examples = ? WHERE run = ? AND role = 'coordinator' AND public_key = ?",
        (examples, run, public_key),
    )


def participants(connection: sqlite3.Connection, run: str) -> list[ParticipantRow]:
    """Who was asked into a run that this node coordinates, in the order in which they were named."""
    rows = connection.execute(
        """
        SELECT public_key, node_id, address, examples, ready FROM participants
        WHERE run = ? AND role = 'coordinator' ORDER BY place
        """,
        (run,),
    )
    return [ParticipantRow(key, node, address, examples, bool(ready)) for key, node, address, examples, ready in rows]


def _run_row(
    run: str, rounds: int, current: int, state: str, reason: str, role: Role, task: bytes, owner: str, *rest: object
) -> RunRow:
    where = Run(run, rounds, current, State(state), reason)
    return RunRow(where, role, task, owner, *rest)  # type: ignore[arg-type]


# --- held runs ------------------------------------------------------------------------------------


def release(connection: sqlite3.Connection, run: str, key: str, at: float) -> bool:
    """A node lets what a run learned be handed out; whether that is new."""
    made = connection.execute("INSERT OR IGNORE INTO releases (run, public_key, at) VALUES (?, ?, ?)", (run, key, at))
    return made.rowcount > 0


def unreleased(connection: sqlite3.Connection, run: str) -> list[str]:
    """The names of those who were ready in a run and have not released it."""
    rows = connection.execute(
        "SELECT node_id FROM participants p WHERE run = ? AND role = 'coordinator' AND ready = 1 "
        "AND NOT EXISTS (SELECT 1 FROM releases r WHERE r.run = p.run AND r.public_key = p.public_key)",
        (run,),
    )
    return [name for (name,) in rows]
