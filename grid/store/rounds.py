"""A coordinator's rounds, and the assignments of each: who was asked, and what came of it.

A participant keeps its own assignments here too, under its own role.
"""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
from msgspec import Struct, field

from grid.protocol import assignment
from grid.protocol.assignment import Assignment
from grid.protocol.pace import Arrivals
from grid.protocol.round import COLLECTING, WAITING, Policy, Round, State
from grid.store.runs import COORDINATOR, PARTICIPANT, Role
from grid.wire.problems import NotFound, NotInvited, UpdateRepeated


class AssignmentRow(Struct, frozen=True):
    """An assignment, and the update that came of it: its weight, its file, its metrics, its place in the order.

    `base` is the round with whose model it began, where that is an earlier one; 0: the round that counted it.
    """

    assignment: Assignment
    role: Role = COORDINATOR
    weight: float = 0.0
    file: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    place: int = 0
    base: int = 0


# --- rounds -------------------------------------------------------------------------------------


def open_round(connection: sqlite3.Connection, run: str, r: Round) -> None:
    """Keep a new round and an assignment for each node that is invited to it."""
    connection.execute(
        """
        INSERT INTO rounds (run, role, number, policy, state, reason, opened, ends, summary)
        VALUES (?, 'coordinator', ?, ?, ?, ?, ?, ?, '{}')
        """,
        (run, r.number, msgspec.json.encode(r.policy), r.state, r.reason, r.opened, r.ends),
    )
    for node in sorted(r.invited):
        put_assignment(connection, AssignmentRow(Assignment(run, r.number, node)))


def forget_round(connection: sqlite3.Connection, run: str, number: int) -> None:
    """A round is to be held anew: nobody was asked, nothing was counted."""
    for table, column in (("assignments", "round"), ("rounds", "number")):
        connection.execute(
            f"DELETE FROM {table} WHERE run = ? AND role = 'coordinator' AND {column} = ?",  # noqa: S608 - our own words
            (run, number),
        )


def set_round_state(
    connection: sqlite3.Connection,
    run: str,
    r: Round,
    *,
    closed: float | None = None,
    summary: dict[str, Any] | None = None,
) -> None:
    """Where a round stands now; `closed` and `summary` stay as they were where they are not given. Raises NotFound."""
    changed = connection.execute(
        """
        UPDATE rounds SET state = ?, reason = ?, ends = ?,
            closed = COALESCE(?, closed), summary = COALESCE(?, summary)
        WHERE run = ? AND role = 'coordinator' AND number = ?
        """,
        (r.state, r.reason, r.ends, closed, None if summary is None else msgspec.json.encode(summary), run, r.number),
    )
    if not changed.rowcount:
        raise NotFound(f"run {run} has no round {r.number}")


def get_round(connection: sqlite3.Connection, run: str, number: int) -> Round:
    """A round as its machine left it, from its row and its assignments; uploads that were under way are lost.

    Raises:
        NotFound: there is no such round.
    """
    row = connection.execute(
        """
        SELECT policy, state, reason, opened, ends FROM rounds
        WHERE run = ? AND role = 'coordinator' AND number = ?
        """,
        (run, number),
    ).fetchone()
    if row is None:
        raise NotFound(f"run {run} has no round {number}")
    policy, state, reason, opened, ends = row
    rows = assignments(connection, run, number)
    parts = {a.assignment.node: a.assignment for a in rows}
    gone = {assignment.FAILED, assignment.EXPIRED}
    committed = frozenset(n for n, a in parts.items() if a.state != assignment.INVITED)
    return Round(
        number=number,
        policy=msgspec.json.decode(policy, type=Policy),
        invited=frozenset(parts),
        opened=opened,
        ends=ends,
        state=COLLECTING if state == WAITING and committed else State(state),
        committed=committed,
        accepted={a.assignment.node: a.weight for a in _accepted(rows)},
        rejected={n: a.reason for n, a in parts.items() if a.state == assignment.REJECTED},
        failed={n: a.reason for n, a in parts.items() if a.state in gone},
        reason=reason,
    )


def arrivals(connection: sqlite3.Connection, run: str, before: int, most: int) -> list[Arrivals]:
    """When the updates of the last `most` rounds before one came, oldest round first.

    Whoever was invited and neither answered nor gave up is missing, as far as the round wanted more updates.
    """
    found = []
    for number in range(max(1, before - most), before):
        try:
            r = get_round(connection, run, number)
        except NotFound:
            continue
        rows = connection.execute(
            """
            SELECT at FROM assignments WHERE run = ? AND round = ? AND role = ? AND place > 0 AND at > 0
            ORDER BY place
            """,
            (run, number, COORDINATOR),
        ).fetchall()
        missing = min(max(r.policy.target - len(r.accepted), 0), r.pending)
        found.append(Arrivals(tuple(max(at - r.opened, 0.0) for (at,) in rows), missing))
    return found


def round_summaries(connection: sqlite3.Connection, run: str) -> dict[int, dict[str, Any]]:
    """What was noted about each round, by number."""
    rows = connection.execute(
        "SELECT number, summary FROM rounds WHERE run = ? AND role = 'coordinator' ORDER BY number", (run,)
    )
    return {number: msgspec.json.decode(summary) for number, summary in rows}


# --- assignments --------------------------------------------------------------------------------

_KEY = "run = ? AND round = ? AND node = ? AND role = ?"
_COLUMNS = "node, state, reason, weight, file, metrics, place, base"


def put_assignment(connection: sqlite3.Connection, row: AssignmentRow) -> None:
    """Keep an assignment, in place of what was known of it."""
    a = row.assignment
    connection.execute(
        """
        INSERT INTO assignments (run, round, node, role, state, reason, weight, file, metrics, place, base)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (run, role, round, node) DO UPDATE SET
            state = excluded.state, reason = excluded.reason, weight = excluded.weight, file = excluded.file,
            metrics = excluded.metrics, place = excluded.place, base = excluded.base
        """,
        (
            *(a.run, a.round, a.node, row.role, a.state, a.reason),
            *(row.weight, row.file, _json(row.metrics), row.place, row.base),
        ),
    )


def set_assignment(connection: sqlite3.Connection, a: Assignment, role: Role = COORDINATOR) -> None:
    """Where an assignment stands now. Raises NotInvited if there is none, UpdateRepeated if its update was counted."""
    changed = connection.execute(
        f"UPDATE assignments SET state = ?, reason = ? WHERE {_KEY} AND place = 0",  # noqa: S608 - our own names
        (a.state, a.reason, a.run, a.round, a.node, role),
    )
    if not changed.rowcount:
        raise UpdateRepeated if get_assignment(connection, a.run, a.round, a.node, role) else NotInvited


def accept_update(
    connection: sqlite3.Connection,
    run: str,
    number: int,
    node: str,
    *,
    weight: float,
    file: str,
    metrics: dict[str, float],
    base: int = 0,
    at: float = 0.0,
) -> None:
    """Count an update, whose file is on disk and which came at `at` (UTC seconds). Whatever happened before: once.

    Raises:
        NotInvited: there is no such assignment.
        UpdateRepeated: it was counted already.
    """
    (place,) = connection.execute(
        "SELECT COALESCE(MAX(place), 0) + 1 FROM assignments WHERE run = ? AND round = ? AND role = ?",
        (run, number, COORDINATOR),
    ).fetchone()
    changed = connection.execute(
        f"""
        UPDATE assignments SET state = 'accepted', reason = '', weight = ?, file = ?, metrics = ?, place = ?,
            base = ?, at = ?
        WHERE {_KEY} AND place = 0
        """,  # noqa: S608 - our own names
        (weight, file, _json(metrics), place, base, at, run, number, node, COORDINATOR),
    )
    if not changed.rowcount:
        raise UpdateRepeated if get_assignment(connection, run, number, node) else NotInvited


def get_assignment(
    connection: sqlite3.Connection, run: str, number: int, node: str, role: Role = COORDINATOR
) -> AssignmentRow | None:
    """One assignment, if there is one."""
    row = connection.execute(
        f"SELECT {_COLUMNS} FROM assignments WHERE {_KEY}",  # noqa: S608 - our own names
        (run, number, node, role),
    ).fetchone()
    return _assignment_row(run, number, role, *row) if row else None


def counted_in(connection: sqlite3.Connection, run: str, base: int, node: str) -> int:
    """The round that counted what a node made of the model of round `base`; 0: none did."""
    found = connection.execute(
        """
        SELECT round FROM assignments WHERE run = ? AND node = ? AND role = 'coordinator' AND place > 0
            AND CASE base WHEN 0 THEN round ELSE base END = ?
        """,
        (run, node, base),
    ).fetchone()
    return int(found[0]) if found else 0


def assignments(connection: sqlite3.Connection, run: str, number: int, role: Role = COORDINATOR) -> list[AssignmentRow]:
    """All assignments of a round, in order of node."""
    rows = connection.execute(
        f"SELECT {_COLUMNS} FROM assignments WHERE run = ? AND round = ? AND role = ? ORDER BY node",  # noqa: S608
        (run, number, role),
    )
    return [_assignment_row(run, number, role, *row) for row in rows]


def own_assignments(connection: sqlite3.Connection, run: str, node: str) -> list[AssignmentRow]:
    """What a participant keeps of its own assignments in a run, in order of round."""
    rows = connection.execute(
        f"SELECT round, {_COLUMNS} FROM assignments WHERE run = ? AND node = ? AND role = ? ORDER BY round",  # noqa: S608
        (run, node, PARTICIPANT),
    )
    return [_assignment_row(run, number, PARTICIPANT, *rest) for number, *rest in rows]


def forget_own_assignments(connection: sqlite3.Connection, run: str, before: int) -> None:
    """A participant no longer needs those of its assignments whose round is earlier than `before`."""
    connection.execute("DELETE FROM assignments WHERE run = ? AND role = ? AND round < ?", (run, PARTICIPANT, before))


def accepted_updates(connection: sqlite3.Connection, run: str, number: int) -> list[AssignmentRow]:
    """The counted updates of a round, in the order in which they were accepted."""
    return _accepted(assignments(connection, run, number))


def _accepted(rows: list[AssignmentRow]) -> list[AssignmentRow]:
    return sorted((a for a in rows if a.place), key=lambda a: a.place)


def _assignment_row(
    run: str,
    number: int,
    role: Role,
    node: str,
    state: str,
    reason: str,
    weight: float,
    file: str,
    metrics: bytes,
    place: int,
    base: int,
) -> AssignmentRow:
    a = Assignment(run, number, node, assignment.State(state), reason)
    return AssignmentRow(a, role, weight, file, msgspec.json.decode(metrics, type=dict[str, float]), place, base)


def _json(metrics: dict[str, float]) -> bytes:
    return msgspec.json.encode(metrics)
