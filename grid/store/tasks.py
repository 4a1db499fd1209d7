"""Tasks for devices and the jobs of those who committed; each function joins its caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from grid.protocol import assignment, task
from grid.protocol.assignment import Assignment
from grid.protocol.task import Task
from grid.wire.problems import TaskExists, TaskNotFound


class TaskRow(Struct, frozen=True):
    """A task for a model's variant: valid for these `checkpoints`, oldest first.

    `owner` is an account or a key, or empty: the node's owner. `bundle` is the SHA-256 of its one file, if that is
    here. An update weighs its examples, `most_examples` at most. `result` is the checkpoint that was made of them.
    """

    task: Task
    owner: str
    model: str
    variant: str
    checkpoints: tuple[str, ...]
    bundle: str
    link: str
    strategy: dict[str, Any]
    most_examples: int
    created: float
    result: str = ""
    evaluation: bytes = b""


class JobRow(Struct, frozen=True):
    """One client's work on a task: `ticket` is the SHA-256 of what it shows when it hands in."""

    id: str
    client: str
    checkpoint: str
    ticket: bytes
    assignment: Assignment
    examples: int
    created: float
    updated: float


class Figures(NamedTuple):
    """How many tasks are open, and how often somebody committed to one, and handed in for one, since ever."""

    open: int
    commitments: int
    registrations: int


_TASK = (
    "name, owner, model, variant, bundle, link, strategy, most_examples, ends, state, reason, result, evaluation"
    ", created"
)
_JOB = "id, task, client, checkpoint, ticket, state, reason, examples, created, updated"
HANDED_IN = (assignment.UPLOADED, assignment.ACCEPTED, assignment.REJECTED)
"""The states of a job whose update came in, whatever became of it."""


# --- tasks ----------------------------------------------------------------------------------------


def add_task(connection: sqlite3.Connection, row: TaskRow) -> None:
    """Keep a new task. Raises TaskExists."""
    t = row.task
    try:
        connection.execute(
            f"INSERT INTO tasks ({_TASK}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - our own names
            (
                t.id,
                row.owner,
                row.model,
                row.variant,
                row.bundle,
                row.link,
                msgspec.json.encode(row.strategy),
                row.most_examples,
                t.ends,
                t.state,
                t.reason,
                row.result,
                row.evaluation,
                row.created,
            ),
        )
    except sqlite3.IntegrityError:
        raise TaskExists(f"there is a task {t.id} already") from None
    connection.executemany(
        "INSERT INTO task_checkpoints (task, position, checkpoint) VALUES (?, ?, ?)",
        [(t.id, position, name) for position, name in enumerate(row.checkpoints)],
    )


def move_task(connection: sqlite3.Connection, row: TaskRow) -> None:
    """Where a task stands, and what came of it."""
    t = row.task
    connection.execute(
        "UPDATE tasks SET ends = ?, state = ?, reason = ?, result = ?, evaluation = ? WHERE name = ?",
        (t.ends, t.state, t.reason, row.result, row.evaluation, t.id),
    )


def set_bundle(connection: sqlite3.Connection, name: str, digest: str) -> None:
    """A task's one file is this one."""
    connection.execute("UPDATE tasks SET bundle = ? WHERE name = ?", (digest, name))


def get_task(connection: sqlite3.Connection, name: str) -> TaskRow:
    """One task. Raises TaskNotFound."""
    row = connection.execute(f"SELECT {_TASK} FROM tasks WHERE name = ?", (name,)).fetchone()  # noqa: S608
    if row is None:
        raise TaskNotFound(f"there is no task {name} that you may see")
    return _task(connection, row)


def find_tasks(
    connection: sqlite3.Connection,
    model: str = "",
    variant: str = "",
    checkpoint: str = "",
    first: str = "",
    *,
    opened: bool = False,
) -> Iterator[TaskRow]:
    """Tasks of a model, a variant and a checkpoint, where given, in order of name, from `first` on; as asked for.

    With `opened` those alone that were not closed: however many there were, the few that go on are found at once.
    """
    found = "SELECT name FROM tasks WHERE state = ?" if opened else "SELECT name FROM tasks WHERE ? != ''"
    rows = connection.execute(
        f"SELECT {_TASK} FROM tasks WHERE name IN ({found}) AND name >= ?"  # noqa: S608 - our own names
        " AND ? IN ('', model) AND ? IN ('', variant)"
        " AND (? = '' OR EXISTS (SELECT 1 FROM task_checkpoints c WHERE c.task = name AND c.checkpoint = ?))"
        " ORDER BY name",
        (task.OPEN, first, model, variant, checkpoint, checkpoint),
    )
    return (_task(connection, row) for row in rows)


def tasks_in(connection: sqlite3.Connection, *states: task.State) -> list[TaskRow]:
    """The tasks in any of these states, the first to end first."""
    marks = ", ".join("?" for _ in states)
    rows = connection.execute(f"SELECT {_TASK} FROM tasks WHERE state IN ({marks}) ORDER BY ends", states)  # noqa: S608
    return [_task(connection, row) for row in rows.fetchall()]


def next_end(connection: sqlite3.Connection) -> float | None:
    """When the next open task ends."""
    (ends,) = connection.execute("SELECT MIN(ends) FROM tasks WHERE state = ?", (task.OPEN,)).fetchone()
    return None if ends is None else float(ends)


def figures(connection: sqlite3.Connection, now: float) -> Figures:
    """All tasks together: how many are open, how often somebody committed to one, and handed in."""
    (opened,) = connection.execute(
        "SELECT COUNT(*) FROM tasks WHERE state = ? AND ends > ?", (task.OPEN, now)
    ).fetchone()
    marks = ", ".join("?" for _ in HANDED_IN)
    committed, handed_in = connection.execute(
        f"SELECT COUNT(*), COALESCE(SUM(state IN ({marks})), 0) FROM task_jobs",  # noqa: S608 - our own names
        HANDED_IN,
    ).fetchone()
    return Figures(int(opened), int(committed), int(handed_in))


def bundles(connection: sqlite3.Connection) -> set[str]:
    """The SHA-256 of every task's file that is here."""
    return {digest for (digest,) in connection.execute("SELECT DISTINCT bundle FROM tasks WHERE bundle != ''")}


# --- jobs -----------------------------------------------------------------------------------------


def put_job(connection: sqlite3.Connection, row: JobRow) -> None:
    """Keep a job, or where it stands by now."""
    a = row.assignment
    connection.execute(
        f"INSERT INTO task_jobs ({_JOB}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
        " ON CONFLICT (id) DO UPDATE SET checkpoint = excluded.checkpoint, ticket = excluded.ticket,"
        " state = excluded.state, reason = excluded.reason, examples = excluded.examples, updated = excluded.updated",
        (
            row.id,
            a.run,
            row.client,
            row.checkpoint,
            row.ticket,
            a.state,
            a.reason,
            row.examples,
            row.created,
            row.updated,
        ),
    )


def get_job(connection: sqlite3.Connection, number: str) -> JobRow:
    """One job. Raises TaskNotFound."""
    row = connection.execute(f"SELECT {_JOB} FROM task_jobs WHERE id = ?", (number,)).fetchone()  # noqa: S608
    if row is None:
        raise TaskNotFound("there is no such job of yours")
    return _job(*row)


def jobs(connection: sqlite3.Connection, name: str, client: str | None = None) -> list[JobRow]:
    """The jobs of a task, or those of one client, oldest first."""
    rows = connection.execute(
        f"SELECT {_JOB} FROM task_jobs WHERE task = ? AND client = COALESCE(?, client) ORDER BY rowid",  # noqa: S608
        (name, client),
    )
    return [_job(*row) for row in rows]


def statistics(connection: sqlite3.Connection, *, name: str = "", model: str = "") -> list[tuple[str, int, int]]:
    """By client: how often it committed to a task, or to any task of a model, and how often it handed in."""
    marks = ", ".join("?" for _ in HANDED_IN)
    rows = connection.execute(
        f"SELECT client, COUNT(*), SUM(j.state IN ({marks})) FROM task_jobs j JOIN tasks t ON t.name = j.task"  # noqa: S608
        " WHERE ? IN ('', t.name) AND ? IN ('', t.model) GROUP BY client ORDER BY client",
        (*HANDED_IN, name, model),
    )
    return [(client, int(committed), int(handed_in)) for client, committed, handed_in in rows]


def waiting(connection: sqlite3.Connection) -> set[str]:
    """The jobs whose updates are on disk and not yet in a sum."""
    rows = connection.execute("SELECT id FROM task_jobs WHERE state = ?", (assignment.UPLOADED,))
    return {number for (number,) in rows}


def _task(connection: sqlite3.Connection, row: Any) -> TaskRow:
    name, owner, model, variant, bundle, link, strategy, most, ends, state, reason, result, evaluation, created = row
    order = connection.execute("SELECT checkpoint FROM task_checkpoints WHERE task = ? ORDER BY position", (name,))
    return TaskRow(
        task=Task(name, ends, task.State(state), reason),
        owner=owner,
        model=model,
        variant=variant,
        checkpoints=tuple(each for (each,) in order),
        bundle=bundle,
        link=link,
        strategy=msgspec.json.decode(strategy),
        most_examples=most,
        created=created,
        result=result,
        evaluation=evaluation,
    )


def _job(
    number: str,
    name: str,
    client: str,
    checkpoint: str,
    ticket: bytes,
    state: str,
    reason: str,
    examples: int,
    created: float,
    updated: float,
) -> JobRow:
    of = Assignment(name, 1, client, assignment.State(state), reason)
    return JobRow(number, client, checkpoint, ticket, of, examples, created, updated)
