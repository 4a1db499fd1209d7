"""Series of rounds and the devices that came by for them; each function joins its caller's transaction."""

from __future__ import annotations

import sqlite3
from typing import Any

import msgspec
from msgspec import Struct

from grid.protocol.fleet import Fleet, Stage, State, Turn
from grid.protocol.series import Terms
from grid.wire.problems import DeviceNotFound, ProjectNotFound, ProjectRefused


class Words(Struct, frozen=True):
    """What the devices of a series are told: `config` is their owner's, files are named by their SHA-256."""

    config: dict[str, Any] = {}
    plans: dict[str, dict[str, str]] = {}
    protocols: dict[str, str] = {}

    @property
    def files(self) -> set[str]:
        """The SHA-256 of every file."""
        return {digest for plan in self.plans.values() for digest in plan.values()} | set(self.protocols.values())


class Trust(Struct, frozen=True):
    """Whose signature lets a device in: `secret` is a key of HMAC-SHA-256, or `public_key` one of RSA, as PEM."""

    secret: bytes = b""
    public_key: str = ""


class SeriesRow(Struct, frozen=True):
    """A series, and its newest round `turn`, which begins with a `checkpoint`. `created` in UTC seconds."""

    id: int
    name: str
    version: str
    owner: str
    terms: Terms
    words: Words
    trust: Trust | None
    fleet: Fleet
    turn: Turn
    checkpoint: str
    created: float

    @property
    def model(self) -> str:
        """The name of its model, a checkpoint of which is made by each complete round."""
        return f"series-{self.id}"

    @property
    def task(self) -> str:
        """The name of the newest round's task, which is there once a device came."""
        return f"{self.model}-{self.turn.number}"


class DeviceRow(Struct, frozen=True):
    """A device of a series, and the round that it took part in last."""

    name: str
    series: int
    last: int | None


_SERIES = "id, name, version, owner, terms, words, trust, state, counted, number, stage, reason, checkpoint, created"


def add_series(connection: sqlite3.Connection, row: SeriesRow) -> SeriesRow:
    """Keep a new series. Raises ProjectRefused: there is one of this name and version."""
    try:
        made = connection.execute(
            "INSERT INTO series (name, version, owner, terms, words, trust, state, counted, number, stage, reason,"
            " checkpoint, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                row.name,
                row.version,
                row.owner,
                msgspec.json.encode(row.terms),
                msgspec.json.encode(row.words),
                b"" if row.trust is None else msgspec.json.encode(row.trust),
                row.fleet.state,
                row.fleet.counted,
                row.turn.number,
                row.turn.state,
                row.turn.reason,
                row.checkpoint,
                row.created,
            ),
        )
    except sqlite3.IntegrityError:
        raise ProjectRefused(f"there is a {row.name} {row.version} already") from None
    return series(connection, made.lastrowid or 0)


def put_series(connection: sqlite3.Connection, row: SeriesRow) -> None:
    """Where a series and its newest round stand."""
    connection.execute(
        "UPDATE series SET state = ?, counted = ?, number = ?, stage = ?, reason = ?, checkpoint = ? WHERE id = ?",
        (
            row.fleet.state,
            row.fleet.counted,
            row.turn.number,
            row.turn.state,
            row.turn.reason,
            row.checkpoint,
            row.id,
        ),
    )


def series(connection: sqlite3.Connection, number: int) -> SeriesRow:
    """One series. Raises ProjectNotFound."""
    row = connection.execute(f"SELECT {_SERIES} FROM series WHERE id = ?", (number,)).fetchone()  # noqa: S608
    if row is None:
        raise ProjectNotFound("there is no such series of rounds here")
    return _series(*row)


def all_series(connection: sqlite3.Connection) -> list[SeriesRow]:
    """Every series, oldest first."""
    return [_series(*row) for row in connection.execute(f"SELECT {_SERIES} FROM series ORDER BY id")]  # noqa: S608


def named(connection: sqlite3.Connection, name: str, version: str) -> SeriesRow:
    """The series of a name and a version, without one the newest. Raises ProjectNotFound."""
    row = connection.execute(
        f"SELECT {_SERIES} FROM series WHERE name = ? AND ? IN ('', version) ORDER BY id DESC LIMIT 1",  # noqa: S608
        (name, version),
    ).fetchone()
    if row is None:
        raise ProjectNotFound(f"there is no {name} {version} here".replace("  ", " "))
    return _series(*row)


def files(connection: sqlite3.Connection) -> set[str]:
    """The SHA-256 of every file of any series."""
    return {digest for row in all_series(connection) for digest in row.words.files}


def add_device(connection: sqlite3.Connection, name: str, of: int, now: float) -> None:
    """A device has introduced itself."""
    connection.execute(
        "INSERT INTO series_devices (name, series, last, created) VALUES (?, ?, NULL, ?)", (name, of, now)
    )


def device(connection: sqlite3.Connection, name: str) -> DeviceRow:
    """One device. Raises DeviceNotFound."""
    row = connection.execute("SELECT name, series, last FROM series_devices WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise DeviceNotFound("nobody has introduced itself by this id: authenticate first")
    return DeviceRow(*row)


def took_part(connection: sqlite3.Connection, name: str, number: int) -> None:
    """A device has a place in a round."""
    connection.execute("UPDATE series_devices SET last = ? WHERE name = ?", (number, name))


def devices(connection: sqlite3.Connection, of: int) -> int:
    """How many devices have introduced themselves to a series."""
    (found,) = connection.execute("SELECT COUNT(*) FROM series_devices WHERE series = ?", (of,)).fetchone()
    return int(found)


def _series(
    number: int,
    name: str,
    version: str,
    owner: str,
    terms: bytes,
    words: bytes,
    trust: bytes,
    state: str,
    counted: int,
    turn: int,
    stage: str,
    reason: str,
    checkpoint: str,
    created: float,
) -> SeriesRow:
    asked = msgspec.json.decode(terms, type=Terms)
    return SeriesRow(
        id=number,
        name=name,
        version=version,
        owner=owner,
        terms=asked,
        words=msgspec.json.decode(words, type=Words),
        trust=msgspec.json.decode(trust, type=Trust) if trust else None,
        fleet=Fleet(asked.rounds, counted, State(state)),
        turn=Turn(turn, Stage(stage), reason),
        checkpoint=checkpoint,
        created=created,
    )
