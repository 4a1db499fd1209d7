"""Associations: the record as it is now, and the proposal that it began with. The same at a node and at a gateway."""

from __future__ import annotations

import sqlite3

import msgspec

from grid.protocol.association import Association
from grid.store.schema import Transaction
from grid.wire.documents import Signed
from grid.wire.problems import NotFound


def add(connection: Transaction, record: Association, proposal: Signed) -> bool:
    """Keep a new one; whether it is new."""
    made = connection.execute(
        "INSERT OR IGNORE INTO associations (id, peer, state, changed, record, proposal) VALUES (?, ?, ?, ?, ?, ?)",
        (
            record.id,
            record.peer,
            record.state,
            record.changed,
            msgspec.json.encode(record),
            msgspec.msgpack.encode(proposal),
        ),
    )
    return made.rowcount > 0


def put(connection: Transaction, record: Association) -> None:
    """It is in another state."""
    connection.execute(
        "UPDATE associations SET state = ?, changed = ?, record = ? WHERE id = ?",
        (record.state, record.changed, msgspec.json.encode(record), record.id),
    )


def get(connection: sqlite3.Connection, id_: str) -> tuple[Association, Signed]:
    """One of them, and its proposal. Raises NotFound."""
    row = connection.execute("SELECT record, proposal FROM associations WHERE id = ?", (id_,)).fetchone()
    if row is None:
        raise NotFound("there is no such association")
    return msgspec.json.decode(row[0], type=Association), msgspec.msgpack.decode(row[1], type=Signed)


def all_of(connection: sqlite3.Connection) -> list[Association]:
    """All, those that changed last first."""
    rows = connection.execute("SELECT record FROM associations ORDER BY changed DESC, id")
    return [msgspec.json.decode(record, type=Association) for (record,) in rows]
