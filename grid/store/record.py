"""A gateway's record of sites, projects and runs; each function joins its caller's transaction."""

from __future__ import annotations

import sqlite3

from msgspec import Struct

from grid.protocol import assignment, run
from grid.protocol.assignment import Assignment
from grid.protocol.run import Run
from grid.wire.problems import NotFound, ProjectRefused


class SiteRow(Struct, frozen=True):
    """A site: whose account it is, whether it is there, when it was last heard of. Times are UTC seconds."""

    id: int
    uid: str
    name: str
    description: str
    owner: str
    connected: bool
    heard: float
    created: float
    updated: float


class ProjectRow(Struct, frozen=True):
    """A project: its tasks as JSON."""

    id: int
    name: str
    description: str
    tasks: bytes
    created: float
    updated: float


class PartyRow(Struct, frozen=True):
    """A site's place in a project."""

    id: int
    project: int
    site: int
    coordinates: bool
    notes: str
    created: float
    updated: float


class PartRow(Struct, frozen=True):
    """A party's part in the run that is batch `batch` of its project."""

    id: int
    project: int
    batch: int
    party: int
    assignment: Assignment
    created: float
    updated: float


class SharedRow(Struct, frozen=True):
    """A batch's run, and its tasks as JSON."""

    project: int
    batch: int
    run: Run
    tasks: bytes


class DepositRow(Struct, frozen=True):
    """A sealed envelope left with a part; `file` is its SHA-256."""

    id: int
    part: int
    kind: str
    task: int
    round: int
    file: str
    size: int
    created: float


# --- sites ------------------------------------------------------------------------------------------

_SITE = "id, uid, name, description, owner, connected, heard, created, updated"


def put_site(connection: sqlite3.Connection, row: SiteRow) -> int:
    """Keep a site, a new one if its `id` is 0; its number. Raises ProjectRefused if name or uid is taken."""
    values = (row.uid, row.name, row.description, row.owner, int(row.connected), row.heard, row.created, row.updated)
    try:
        made = connection.execute(
            f"INSERT INTO sites ({_SITE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,"
            " connected = excluded.connected, heard = excluded.heard, updated = excluded.updated",
            (row.id or None, *values),
        )
    except sqlite3.IntegrityError:
        raise ProjectRefused(f"a site of this name or uid is there: {row.name}") from None
    return row.id or made.lastrowid or 0


def sites(connection: sqlite3.Connection) -> list[SiteRow]:
    """All sites, oldest first."""
    rows = connection.execute(f"SELECT {_SITE} FROM sites ORDER BY id")  # noqa: S608 - our own names
    return [_site(*row) for row in rows]


def delete_site(connection: sqlite3.Connection, number: int) -> None:
    """Forget a site. Raises ProjectRefused while it is in a project."""
    try:
        connection.execute("DELETE FROM sites WHERE id = ?", (number,))
    except sqlite3.IntegrityError:
        raise ProjectRefused("this site is in a project; it leaves that first") from None


# --- projects ---------------------------------------------------------------------------------------

_PROJECT = "id, name, description, tasks, created, updated"
_PARTY = "id, project, site, coordinates, notes, created, updated"


def put_project(connection: sqlite3.Connection, row: ProjectRow) -> int:
    """Keep a project, a new one if its `id` is 0; its number. Raises ProjectRefused if the name is taken."""
    try:
        made = connection.execute(
            f"INSERT INTO consortia ({_PROJECT}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
            " ON CONFLICT (id) DO UPDATE SET name = excluded.name, description = excluded.description,"
            " tasks = excluded.tasks, updated = excluded.updated",
            (row.id or None, row.name, row.description, row.tasks, row.created, row.updated),
        )
    except sqlite3.IntegrityError:
        raise ProjectRefused(f"there is a project {row.name}") from None
    return row.id or made.lastrowid or 0


def projects(connection: sqlite3.Connection) -> list[ProjectRow]:
    """All projects, oldest first."""
    return _projects(connection, "TRUE")


def projects_of(connection: sqlite3.Connection, account: str) -> list[ProjectRow]:
    """The projects that an account has a site in, oldest first."""
    inside = "id IN (SELECT project FROM parties JOIN sites ON sites.id = parties.site WHERE sites.owner = ?)"
    return _projects(connection, inside, account)


def project(connection: sqlite3.Connection, number: int) -> list[ProjectRow]:
    """The project of a number, if there is one."""
    return _projects(connection, "id = ?", number)


def project_named(connection: sqlite3.Connection, name: str) -> list[ProjectRow]:
    """The project of a name, if there is one."""
    return _projects(connection, "name = ?", name)


def _projects(connection: sqlite3.Connection, where: str, *values: str | int) -> list[ProjectRow]:
    rows = connection.execute(f"SELECT {_PROJECT} FROM consortia WHERE {where} ORDER BY id", values)  # noqa: S608
    return [ProjectRow(*row) for row in rows]


def delete_project(connection: sqlite3.Connection, number: int) -> None:
    """Forget a project with its parties, runs and what was left with them."""
    connection.execute("DELETE FROM shared_runs WHERE project = ?", (number,))
    connection.execute("DELETE FROM consortia WHERE id = ?", (number,))


def put_party(connection: sqlite3.Connection, row: PartyRow) -> int:
    """Keep a site's place in a project, a new one if its `id` is 0; its number.

    Raises:
        ProjectRefused: it is in the project already, or there is a coordinator.
    """
    try:
        made = connection.execute(
            f"INSERT INTO parties ({_PARTY}) VALUES (?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own names
            " ON CONFLICT (id) DO UPDATE SET notes = excluded.notes, updated = excluded.updated",
            (row.id or None, row.project, row.site, int(row.coordinates), row.notes, row.created, row.updated),
        )
    except sqlite3.IntegrityError:
        raise ProjectRefused("this site is in the project already, or its project has a coordinator") from None
    return row.id or made.lastrowid or 0


def parties(connection: sqlite3.Connection, project: int) -> list[tuple[PartyRow, SiteRow]]:
    """The places in a project, oldest first, each with its site."""
    columns = ", ".join([f"p.{c}" for c in _PARTY.split(", ")] + [f"s.{c}" for c in _SITE.split(", ")])
    rows = connection.execute(
        f"SELECT {columns} FROM parties p JOIN sites s ON s.id = p.site"  # noqa: S608 - our own names
        " WHERE p.project = ? ORDER BY p.id",
        (project,),
    )
    return [(_party(*row[:7]), _site(*row[7:])) for row in rows]


def delete_party(connection: sqlite3.Connection, number: int) -> None:
    """A site is in a project no longer. Raises ProjectRefused if it has taken part in a run."""
    try:
        connection.execute("DELETE FROM parties WHERE id = ?", (number,))
    except sqlite3.IntegrityError:
        raise ProjectRefused("this site has taken part in a run, which the project keeps") from None


# --- runs ---------------------------------------------------------------------------------------------

_PART = "id, project, batch, party, round, state, reason, created, updated"


def put_shared(connection: sqlite3.Connection, row: SharedRow) -> None:
    """Where a batch's run stands."""
    r = row.run
    connection.execute(
        "INSERT INTO shared_runs (project, batch, rounds, round, state, reason, tasks) VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (project, batch) DO UPDATE SET"
        " rounds = excluded.rounds, round = excluded.round, state = excluded.state, reason = excluded.reason",
        (row.project, row.batch, r.rounds, r.current, r.state, r.reason, row.tasks),
    )


def shared(connection: sqlite3.Connection, project: int) -> list[SharedRow]:
    """A project's runs, oldest first."""
    rows = connection.execute(
        "SELECT batch, rounds, round, state, reason, tasks FROM shared_runs WHERE project = ? ORDER BY batch",
        (project,),
    )
    return [
        SharedRow(project, batch, Run(f"{project}-{batch}", rounds, current, run.State(state), reason), tasks)
        for batch, rounds, current, state, reason, tasks in rows
    ]


def put_part(connection: sqlite3.Connection, row: PartRow) -> int:
    """Where a part stands, a new one if its `id` is 0; its number."""
    a = row.assignment
    made = connection.execute(
        "INSERT INTO run_parts (id, project, batch, party, round, state, reason, created, updated)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET"
        " round = excluded.round, state = excluded.state, reason = excluded.reason, updated = excluded.updated",
        (row.id or None, row.project, row.batch, row.party, a.round, a.state, a.reason, row.created, row.updated),
    )
    return row.id or made.lastrowid or 0


def parts(connection: sqlite3.Connection, project: int, batch: int | None = None) -> list[PartRow]:
    """The parts in a project's runs, or in that of one batch, oldest first."""
    rows = connection.execute(
        f"SELECT {_PART} FROM run_parts WHERE project = ? AND batch = COALESCE(?, batch) ORDER BY id",  # noqa: S608
        (project, batch),
    )
    return [_part(*row) for row in rows]


def get_part(connection: sqlite3.Connection, number: int) -> PartRow:
    """One part in a run. Raises NotFound."""
    row = connection.execute(f"SELECT {_PART} FROM run_parts WHERE id = ?", (number,)).fetchone()  # noqa: S608
    if row is None:
        raise NotFound("there is no such run for this account")
    return _part(*row)


def add_deposit(connection: sqlite3.Connection, row: DepositRow) -> None:
    """Keep that an envelope was left."""
    connection.execute(
        "INSERT INTO deposits (part, kind, task, round, file, size, created) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (row.part, row.kind, row.task, row.round, row.file, row.size, row.created),
    )


def deposits(connection: sqlite3.Connection, part: int) -> list[DepositRow]:
    """What was left with a part, oldest first."""
    rows = connection.execute(
        "SELECT id, part, kind, task, round, file, size, created FROM deposits WHERE part = ? ORDER BY id", (part,)
    )
    return [DepositRow(*row) for row in rows]


def deposited(connection: sqlite3.Connection) -> int:
    """How many bytes were left with all parts."""
    (total,) = connection.execute("SELECT COALESCE(SUM(size), 0) FROM deposits").fetchone()
    return int(total)


def deposited_files(connection: sqlite3.Connection) -> set[str]:
    """The SHA-256 of every envelope that was left."""
    return {file for (file,) in connection.execute("SELECT file FROM deposits")}


def _site(number: int, uid: str, name: str, text: str, owner: str, connected: int, *times: float) -> SiteRow:
    heard, created, updated = times
    return SiteRow(number, uid, name, text, owner, bool(connected), heard, created, updated)


def _party(number: int, project: int, site: int, coordinates: int, notes: str, *times: float) -> PartyRow:
    created, updated = times
    return PartyRow(number, project, site, bool(coordinates), notes, created, updated)


def _part(
    number: int, project: int, batch: int, party: int, round_: int, state: str, reason: str, *times: float
) -> PartRow:
    created, updated = times
    of = _assignment(project, batch, party, round_, state, reason)
    return PartRow(number, project, batch, party, of, created, updated)


def _assignment(project: int, batch: int, party: int, number: int, state: str, reason: str) -> Assignment:
    return Assignment(f"{project}-{batch}", number, str(party), assignment.State(state), reason)
