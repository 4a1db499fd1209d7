"""A node's projects, who is in them, and their batches; each function joins its caller's transaction."""

from __future__ import annotations

import sqlite3

from msgspec import Struct

from grid.protocol.project import Batch, State
from grid.store.runs import COORDINATOR, Role
from grid.wire.problems import ProjectNotFound, ProjectRefused


class ProjectRow(Struct, frozen=True):
    """A project in which this node has a role; `document`: the coordinator's signed document, encoded.

    `address` is the coordinator's, where this node takes part; `created` is in UTC seconds.
    """

    id: str
    role: Role
    name: str
    document: bytes
    created: float
    address: str = ""
    open: bool = False


_PROJECT = "id, role, name, document, created, address, open"
_BATCH = "project, number, tasks, task, run, state, reason"


def add_project(connection: sqlite3.Connection, row: ProjectRow) -> None:
    """Keep a project; one that was joined before is joined under its present address."""
    connection.execute(
        f"INSERT INTO projects ({_PROJECT}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
        " ON CONFLICT (id, role) DO UPDATE SET document = excluded.document, address = excluded.address",
        (row.id, row.role, row.name, row.document, row.created, row.address, int(row.open)),
    )


def refuse_taken(connection: sqlite3.Connection, name: str) -> None:
    """Raises ProjectRefused if this node coordinates a project of this name."""
    if connection.execute("SELECT 1 FROM projects WHERE name = ? AND role = ?", (name, COORDINATOR)).fetchone():
        raise ProjectRefused(f"a project {name} is here already")


def get_project(connection: sqlite3.Connection, project: str, role: Role = COORDINATOR) -> ProjectRow:
    """One project. Raises ProjectNotFound."""
    row = connection.execute(
        f"SELECT {_PROJECT} FROM projects WHERE id = ? AND role = ?",  # noqa: S608 - our own names
        (project, role),
    ).fetchone()
    if row is None:
        raise ProjectNotFound
    return _project(row)


def list_projects(connection: sqlite3.Connection) -> list[ProjectRow]:
    """All projects of this node, newest first."""
    rows = connection.execute(f"SELECT {_PROJECT} FROM projects ORDER BY created DESC, id, role")  # noqa: S608
    return [_project(row) for row in rows]


def remove_project(connection: sqlite3.Connection, project: str, role: Role) -> None:
    """This node no longer has a role in a project."""
    connection.execute("DELETE FROM projects WHERE id = ? AND role = ?", (project, role))


def admit(connection: sqlite3.Connection, project: str, public_key: str) -> None:
    """The holder of a key may join."""
    connection.execute(
        "INSERT INTO project_members (project, public_key) VALUES (?, ?) ON CONFLICT DO NOTHING", (project, public_key)
    )


def set_membership(connection: sqlite3.Connection, project: str, public_key: str, membership: bytes) -> None:
    """A site joined, or left: the signed document that says so, encoded."""
    connection.execute(
        "INSERT INTO project_members (project, public_key, membership) VALUES (?, ?, ?)"
        " ON CONFLICT (project, public_key) DO UPDATE SET membership = excluded.membership",
        (project, public_key, membership),
    )


def memberships(connection: sqlite3.Connection, project: str) -> dict[str, bytes | None]:
    """By key: the signed membership, None of those who were admitted and have not joined."""
    rows = connection.execute(
        "SELECT public_key, membership FROM project_members WHERE project = ? ORDER BY rowid", (project,)
    )
    return dict(rows)


def put_batch(connection: sqlite3.Connection, batch: Batch, at: float) -> None:
    """Where a batch stands; a run that is new to it is kept with the task that it is of."""
    connection.execute(
        f"INSERT INTO batches ({_BATCH}, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
        " ON CONFLICT (project, number) DO UPDATE SET"
        " task = excluded.task, run = excluded.run, state = excluded.state, reason = excluded.reason",
        (batch.project, batch.number, batch.tasks, batch.task, batch.run, batch.state, batch.reason, at),
    )
    if batch.run:
        connection.execute(
            "INSERT INTO batch_runs (run, project, batch, task, created) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (batch.run, batch.project, batch.number, batch.task, at),
        )


def batches(connection: sqlite3.Connection, project: str) -> list[tuple[Batch, float]]:
    """A project's batches and when they were begun, oldest first."""
    rows = connection.execute(
        f"SELECT {_BATCH}, created FROM batches WHERE project = ? ORDER BY number",  # noqa: S608 - our own names
        (project,),
    )
    return [(_batch(*row[:-1]), row[-1]) for row in rows]


def unfinished_batches(connection: sqlite3.Connection) -> list[Batch]:
    """The batches that were going on."""
    rows = connection.execute(
        f"SELECT {_BATCH} FROM batches WHERE state IN (?, ?) ORDER BY created",  # noqa: S608 - our own names
        (State.RUNNING, State.STOPPING),
    )
    return [_batch(*row) for row in rows]


def batch_runs(connection: sqlite3.Connection, project: str) -> list[tuple[int, int, str, str]]:
    """A project's runs, oldest first: batch, task, id, and state ("" of one that has not been started)."""
    rows = connection.execute(
        """
        SELECT b.batch, b.task, b.run, COALESCE(r.state, '') FROM batch_runs b
        LEFT JOIN runs r ON r.id = b.run AND r.role = 'coordinator'
        WHERE b.project = ? ORDER BY b.created, b.rowid
        """,
        (project,),
    )
    return list(rows)


def _project(row: tuple[str, Role, str, bytes, float, str, int]) -> ProjectRow:
    return ProjectRow(*row[:-1], open=bool(row[-1]))


def _batch(project: str, number: int, tasks: int, task: int, run: str, state: str, reason: str) -> Batch:
    return Batch(project, number, tasks, task, run, State(state), reason)
