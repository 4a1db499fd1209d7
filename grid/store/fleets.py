"""Fleets, their devices and rounds, and what devices report; each function joins its caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct

from grid.protocol import fleet as rules
from grid.protocol.fleet import Fleet, Report, Turn
from grid.wire.flaas import Terms, Wake
from grid.wire.problems import DeviceNotFound, ProjectNotFound, ProjectRefused, RoundNotFound, UpdateRepeated


class FleetRow(Struct, frozen=True):
    """A project. `owner` is an account or a key, or empty: the node's owner; `created` in UTC seconds."""

    id: int
    terms: Terms
    owner: str
    fleet: Fleet
    created: float

    @property
    def model(self) -> str:
        """The name of its model, one checkpoint of which is made by each round."""
        return f"fleet-{self.id}"


class DeviceRow(Struct, frozen=True):
    """A device: an account, its shard of samples, the project it belongs to (0: none), its last report."""

    account: int
    name: str
    samples: int
    fleet: int
    wake: Wake | None
    report: Report | None


class RoundRow(Struct, frozen=True):
    """A round of a project: the checkpoint that it begins with, and its task once devices were asked."""

    id: int
    fleet: int
    turn: Turn
    checkpoint: str
    task: str
    created: float
    started: float | None = None
    stopped: float | None = None


class Told(Struct, frozen=True):
    """One report of the past; `round`: the id of the one that the device says to be done with, 0: none."""

    name: str
    report: Report
    round: int
    version: int
    bucket: int


_FLEET = "id, terms, owner, state, counted, created"
_DEVICE = "d.account, a.name, d.samples, d.fleet, d.wake, d.reported, d.plugged, d.level, d.eligible"
_ROUND = "id, fleet, number, state, reason, checkpoint, task, created, started, stopped"


# --- projects -----------------------------------------------------------------------------------


def add_fleet(connection: sqlite3.Connection, terms: Terms, owner: str, now: float) -> FleetRow:
    """Keep a new project, which is stopped. Raises ProjectRefused: its title is taken."""
    try:
        made = connection.execute(
            "INSERT INTO fleets (title, terms, owner, state, counted, created) VALUES (?, ?, ?, ?, 0, ?)",
            (terms.title, msgspec.json.encode(terms), owner, rules.STOPPED, now),
        )
    except sqlite3.IntegrityError:
        raise ProjectRefused(f"there is a project {terms.title!r} already") from None
    return fleet(connection, made.lastrowid or 0)


def put_fleet(connection: sqlite3.Connection, row: FleetRow) -> None:
    """What a project asks by now, and where it stands. Raises ProjectRefused: its title is taken."""
    try:
        connection.execute(
            "UPDATE fleets SET title = ?, terms = ?, state = ?, counted = ? WHERE id = ?",
            (row.terms.title, msgspec.json.encode(row.terms), row.fleet.state, row.fleet.counted, row.id),
        )
    except sqlite3.IntegrityError:
        raise ProjectRefused(f"there is a project {row.terms.title!r} already") from None


def drop_fleet(connection: sqlite3.Connection, number: int) -> None:
    """Forget a project with its rounds and results; its devices stay."""
    connection.execute("DELETE FROM fleets WHERE id = ?", (number,))


def fleet(connection: sqlite3.Connection, number: int) -> FleetRow:
    """One project. Raises ProjectNotFound."""
    row = connection.execute(f"SELECT {_FLEET} FROM fleets WHERE id = ?", (number,)).fetchone()  # noqa: S608
    if row is None:
        raise ProjectNotFound(f"there is no project {number} that you may see")
    return _fleet(*row)


def fleets(connection: sqlite3.Connection) -> list[FleetRow]:
    """All projects, oldest first."""
    rows = connection.execute(f"SELECT {_FLEET} FROM fleets ORDER BY id")  # noqa: S608 - our own names
    return [_fleet(*row) for row in rows]


# --- devices ------------------------------------------------------------------------------------


def refuse_samples(connection: sqlite3.Connection, samples: int) -> None:
    """Raises ProjectRefused if the samples of that index are a device's."""
    if connection.execute("SELECT 1 FROM fleet_devices WHERE samples = ?", (samples,)).fetchone():
        raise ProjectRefused(f"the samples of index {samples} are another device's")


def add_device(connection: sqlite3.Connection, account: str, samples: int) -> None:
    """An account becomes a device. Raises ProjectRefused: it is one, or another has these samples."""
    try:
        connection.execute(
            "INSERT INTO fleet_devices (account, samples, wake) SELECT id, ?, x'' FROM accounts WHERE name = ?",
            (samples, account),
        )
    except sqlite3.IntegrityError:
        raise ProjectRefused(
            f"the samples of index {samples} are another device's, or {account} is a device already"
        ) from None


def device(connection: sqlite3.Connection, name: str | None) -> DeviceRow:
    """The device of an account. Raises DeviceNotFound."""
    rows = connection.execute(
        f"SELECT {_DEVICE} FROM fleet_devices d JOIN accounts a ON a.id = d.account WHERE a.name = ?",  # noqa: S608
        (name or "",),
    ).fetchall()
    if not rows:
        raise DeviceNotFound("this account is no device of the fleet")
    return _device(*rows[0])


def devices(connection: sqlite3.Connection, number: int | None = None, prefix: str = "") -> list[DeviceRow]:
    """All devices, or those of a project, whose names begin so, in the order in which they came."""
    rows = connection.execute(
        f"SELECT {_DEVICE} FROM fleet_devices d JOIN accounts a ON a.id = d.account"  # noqa: S608 - our own names
        " WHERE (? IS NULL OR d.fleet = ?) AND substr(a.name, 1, length(?)) = ? ORDER BY a.id",
        (number, number, prefix, prefix),
    )
    return [_device(*row) for row in rows]


def assign(connection: sqlite3.Connection, accounts: Iterable[int], number: int | None) -> None:
    """These devices belong to a project from now on, or to none."""
    connection.executemany(
        "UPDATE fleet_devices SET fleet = ? WHERE account = ?", [(number, account) for account in accounts]
    )


def put_wake(connection: sqlite3.Connection, account: int, wake: Wake | None) -> None:
    """How a device is woken."""
    data = b"" if wake is None else msgspec.json.encode(wake)
    connection.execute("UPDATE fleet_devices SET wake = ? WHERE account = ?", (data, account))


# --- reports ------------------------------------------------------------------------------------


def add_report(
    connection: sqlite3.Connection, account: int, report: Report, round_id: int, version: int, bucket: int
) -> None:
    """What a device said, and that it is its last word."""
    said = (report.plugged, report.level, report.eligible)
    connection.execute(
        "INSERT INTO fleet_reports (account, at, round, plugged, level, eligible, version, bucket)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (account, report.at, round_id or None, *said, version, bucket),
    )
    connection.execute(
        "UPDATE fleet_devices SET reported = ?, plugged = ?, level = ?, eligible = ? WHERE account = ?",
        (report.at, *said, account),
    )


def reports(connection: sqlite3.Connection, after: float, before: float = 1e18) -> list[Told]:
    """What was reported in between (UTC seconds), newest first."""
    rows = connection.execute(
        "SELECT a.name, r.at, r.plugged, r.level, r.eligible, r.round, r.version, r.bucket FROM fleet_reports r"
        " JOIN accounts a ON a.id = r.account WHERE r.at > ? AND r.at < ? ORDER BY r.at DESC, r.id DESC",
        (after, before),
    )
    return [
        Told(name, _report(at, *said), round_id or 0, version, bucket)
        for name, at, *said, round_id, version, bucket in rows
    ]


def forget_reports(connection: sqlite3.Connection, before: float) -> None:
    """What was reported before a time is not needed any more."""
    connection.execute("DELETE FROM fleet_reports WHERE at < ?", (before,))


# --- rounds -------------------------------------------------------------------------------------


def add_round(connection: sqlite3.Connection, number: int, of: int, checkpoint: str, now: float) -> RoundRow:
    """The next round of a project `of`: its `number`, and the checkpoint that it begins with."""
    connection.execute(
        "INSERT INTO fleet_rounds (fleet, number, state, reason, checkpoint, task, created)"
        " VALUES (?, ?, ?, '', ?, '', ?)",
        (of, number, rules.WAITING, checkpoint, now),
    )
    return round_of(connection, of, number)


def put_round(connection: sqlite3.Connection, row: RoundRow) -> None:
    """Where a round stands."""
    connection.execute(
        "UPDATE fleet_rounds SET state = ?, reason = ?, task = ?, started = ?, stopped = ? WHERE id = ?",
        (row.turn.state, row.turn.reason, row.task, row.started, row.stopped, row.id),
    )


def round_of(connection: sqlite3.Connection, of: int, number: int | None = None) -> RoundRow:
    """One round of a project, or its newest one. Raises RoundNotFound."""
    row = connection.execute(
        f"SELECT {_ROUND} FROM fleet_rounds WHERE fleet = ? AND number = COALESCE(?, number)"  # noqa: S608
        " ORDER BY number DESC LIMIT 1",
        (of, number),
    ).fetchone()
    if row is None:
        raise RoundNotFound(f"project {of} has no round {'' if number is None else number}".rstrip())
    return _round(*row)


def round_named(connection: sqlite3.Connection, round_id: int) -> RoundRow:
    """The round of an id. Raises RoundNotFound."""
    row = connection.execute(f"SELECT {_ROUND} FROM fleet_rounds WHERE id = ?", (round_id,)).fetchone()  # noqa: S608
    if row is None:
        raise RoundNotFound("there is no round that was asked for by this number")
    return _round(*row)


def rounds(connection: sqlite3.Connection, of: int) -> list[RoundRow]:
    """All rounds of a project, oldest first."""
    rows = connection.execute(f"SELECT {_ROUND} FROM fleet_rounds WHERE fleet = ? ORDER BY number", (of,))  # noqa: S608
    return [_round(*row) for row in rows]


def put_asked(connection: sqlite3.Connection, round_id: int, accounts: Iterable[int]) -> None:
    """Which devices were asked to train in a round."""
    connection.executemany(
        "INSERT OR IGNORE INTO fleet_asked (round, account) VALUES (?, ?)", [(round_id, each) for each in accounts]
    )


def asked(connection: sqlite3.Connection, round_id: int) -> list[str]:
    """The names of the devices that were asked to train in a round."""
    rows = connection.execute(
        "SELECT a.name FROM fleet_asked f JOIN accounts a ON a.id = f.account WHERE f.round = ? ORDER BY a.id",
        (round_id,),
    )
    return [name for (name,) in rows]


def add_result(connection: sqlite3.Connection, round_id: int, account: int, filename: str, data: bytes) -> None:
    """What a device measured. The same again changes nothing. Raises UpdateRepeated: it said something else before."""
    there = connection.execute(
        "SELECT data FROM fleet_results WHERE round = ? AND account = ? AND filename = ?", (round_id, account, filename)
    ).fetchone()
    if there is not None and there[0] != data:
        raise UpdateRepeated(f"this device has handed in another {filename} for the round")
    connection.execute(
        "INSERT OR IGNORE INTO fleet_results (round, account, filename, data) VALUES (?, ?, ?, ?)",
        (round_id, account, filename, data),
    )


def results(connection: sqlite3.Connection, round_id: int, filename: str) -> list[bytes]:
    """One file of results, as each device of a round handed it in."""
    rows = connection.execute(
        "SELECT data FROM fleet_results WHERE round = ? AND filename = ? ORDER BY account", (round_id, filename)
    )
    return [data for (data,) in rows]


# --- rows ---------------------------------------------------------------------------------------


def _fleet(number: int, terms: bytes, owner: str, state: str, counted: int, created: float) -> FleetRow:
    said = msgspec.json.decode(terms, type=Terms)
    return FleetRow(number, said, owner, Fleet(said.number_of_rounds, counted, rules.State(state)), created)


def _device(
    account: int, name: str, samples: int, of: int | None, wake: bytes, at: float | None, *said: Any
) -> DeviceRow:
    woken: Wake | None = msgspec.json.decode(wake, type=Wake) if wake else None
    return DeviceRow(account, name, samples, of or 0, woken, None if at is None else _report(at, *said))


def _report(at: float, plugged: int | None, level: float | None, eligible: int | None) -> Report:
    said = (None if each is None else bool(each) for each in (plugged, eligible))
    return Report(at, next(said), level, next(said))


def _round(
    round_id: int, of: int, number: int, state: str, reason: str, checkpoint: str, task: str, *times: Any
) -> RoundRow:
    return RoundRow(round_id, of, Turn(number, rules.Stage(state), reason), checkpoint, task, *times)
