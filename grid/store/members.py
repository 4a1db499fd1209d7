"""A gateway's rows: its members with what they signed, and the ids that are kept for their keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Struct

from grid.protocol.membership import Member, State
from grid.wire.documents import Signed


class Row(Struct, frozen=True):
    """A member, where it answers, and what it signed (nothing, if it proved nothing)."""

    member: Member
    address: str
    record: Signed | None = None
    prekey: bytes | None = None


class Reserved(Struct, frozen=True):
    """An id that the key `signer` may take again until `until`, with a record newer than `version`."""

    node_id: str
    signer: str
    version: int
    until: float


def put(connection: sqlite3.Connection, joined: Sequence[Row]) -> None:
    """List members in place of whatever had their ids, one after the other."""
    connection.executemany("DELETE FROM reserved WHERE node_id = ?", [(row.member.node,) for row in joined])
    connection.executemany(
        """
        INSERT INTO members (node_id, address, record, prekey, state, lease_ends, last_answer, latency, failures)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (node_id) DO UPDATE SET
            address = excluded.address, record = excluded.record, prekey = excluded.prekey, state = excluded.state,
            lease_ends = excluded.lease_ends, last_answer = excluded.last_answer, latency = excluded.latency,
            failures = excluded.failures
        """,
        [_columns(row) for row in joined],
    )


def save(connection: sqlite3.Connection, members: Iterable[Member]) -> None:
    """New states and leases of members that are listed; of others nothing is kept."""
    connection.executemany(
        """
        UPDATE members SET state = ?, lease_ends = ?, last_answer = ?, latency = ?, failures = ? WHERE node_id = ?
        """,
        [(m.state, m.lease_ends, m.last_answer, m.latency, m.failures, m.node) for m in members],
    )


def forget(connection: sqlite3.Connection, ids: Iterable[str]) -> None:
    """Free these ids: neither members nor reserved."""
    rows = [(node_id,) for node_id in ids]
    connection.executemany("DELETE FROM members WHERE node_id = ?", rows)
    connection.executemany("DELETE FROM reserved WHERE node_id = ?", rows)


def reserve(connection: sqlite3.Connection, reserved: Iterable[Reserved]) -> None:
    """Take members off the list and keep their ids for their keys."""
    kept = list(reserved)
    forget(connection, [r.node_id for r in kept])
    connection.executemany(
        "INSERT INTO reserved (node_id, signer, version, until) VALUES (?, ?, ?, ?)",
        [(r.node_id, r.signer, r.version, r.until) for r in kept],
    )


def all_members(connection: sqlite3.Connection) -> list[Row]:
    """All members in order of id; those with a record are verified."""
    rows = connection.execute(
        """
        SELECT node_id, address, record, prekey, state, lease_ends, last_answer, latency, failures
        FROM members ORDER BY node_id
        """
    )
    return [_row(*row) for row in rows]


def all_reserved(connection: sqlite3.Connection) -> list[Reserved]:
    """All ids that are kept, in order."""
    rows = connection.execute("SELECT node_id, signer, version, until FROM reserved ORDER BY node_id")
    return [Reserved(*row) for row in rows]


def _columns(row: Row) -> tuple[object, ...]:
    m, record = row.member, msgspec.msgpack.encode(row.record) if row.record else None
    return m.node, row.address, record, row.prekey, m.state, m.lease_ends, m.last_answer, m.latency, m.failures


def _row(
    node_id: str,
    address: str,
    record: bytes | None,
    prekey: bytes | None,
    state: str,
    lease_ends: float,
    last_answer: float | None,
    latency: float | None,
    failures: int,
) -> Row:
    member = Member(node_id, lease_ends, record is not None, State(state), last_answer, latency, failures)
    return Row(member, address, msgspec.msgpack.decode(record, type=Signed) if record else None, prekey)
