"""Requests for access, the gates of datasets, and the chained log of decisions."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable

import msgspec

from grid.protocol.request import Request, likeness
from grid.store import events
from grid.store.schema import Transaction
from grid.wire.documents import Signed
from grid.wire.problems import NotFound
from grid.wire.requests import AuditEntry, Evidence, GateSetting

TOPIC = "requests"
"""The topic of the event log about all requests; those of an account are also in `requests/ACCOUNT`."""

Sign = Callable[[AuditEntry], Signed]


def add(connection: Transaction, request: Request, evidence: Evidence) -> Request:
    """Keep a new request; it comes back with its number."""
    asked = request.asked
    like = "" if asked.training is None else likeness(asked.training)
    made = connection.execute(
        "INSERT INTO requests (account, dataset, kind, likeness, state, run, created, record, evidence) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            request.account,
            asked.dataset,
            asked.kind,
            like,
            request.state,
            request.run,
            request.created,
            b"",
            msgspec.json.encode(evidence),
        ),
    )
    request = msgspec.structs.replace(request, id=made.lastrowid or 0)
    put(connection, request)
    return request


def put(connection: Transaction, request: Request) -> None:
    """A request is in another state; who listens hears of it."""
    connection.execute(
        "UPDATE requests SET state = ?, run = ?, record = ? WHERE id = ?",
        (request.state, request.run, msgspec.json.encode(request), request.id),
    )
    said = {"request": request.id, "account": request.account, "state": request.state, "why": request.why}
    at = request.changed or request.created
    for topic in (TOPIC, f"{TOPIC}/{request.account}"):
        events.append(connection, topic, f"request-{request.state}", at, said)


def get(connection: sqlite3.Connection, number: int) -> tuple[Request, Evidence]:
    """A request, and what was kept as evidence. Raises NotFound."""
    row = connection.execute("SELECT record, evidence FROM requests WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise NotFound(f"there is no request {number}")
    return _read(row[0]), msgspec.json.decode(row[1], type=Evidence)


def measured(connection: Transaction, number: int, evidence: Evidence) -> None:
    """More is known of a request."""
    connection.execute("UPDATE requests SET evidence = ? WHERE id = ?", (msgspec.json.encode(evidence), number))


def find(
    connection: sqlite3.Connection,
    *,
    account: str | None = None,
    dataset: str | None = None,
    kind: str | None = None,
    state: str | None = None,
    like: str | None = None,
    run: str | None = None,
) -> list[Request]:
    """Requests of which all that is given holds, newest first."""
    asked = {
        "account": account,
        "dataset": dataset,
        "kind": kind,
        "state": state,
        "likeness": like,
        "run": run,
    }
    given = {name: value for name, value in asked.items() if value is not None}
    where = " AND ".join(f"{name} = :{name}" for name in given) or "1"
    rows = connection.execute(f"SELECT record FROM requests WHERE {where} ORDER BY id DESC", given)  # noqa: S608
    return [_read(record) for (record,) in rows]


def histories(connection: sqlite3.Connection, account: str) -> dict[str, int]:
    """How many requests of an account are in which state."""
    rows = connection.execute("SELECT state, COUNT(*) FROM requests WHERE account = ? GROUP BY state", (account,))
    return dict(rows.fetchall())


def counts(connection: sqlite3.Connection) -> dict[str, int]:
    """How many requests are in which state."""
    return dict(connection.execute("SELECT state, COUNT(*) FROM requests GROUP BY state").fetchall())


def evidences(connection: sqlite3.Connection, dataset: str, kind: str) -> list[Evidence]:
    """What was known of all requests of a kind on a dataset that were granted."""
    rows = connection.execute(
        "SELECT evidence FROM requests WHERE dataset = ? AND kind = ? AND state IN ('accepted', 'released', 'lapsed')",
        (dataset, kind),
    )
    return [msgspec.json.decode(evidence, type=Evidence) for (evidence,) in rows]


def _read(record: bytes) -> Request:
    return msgspec.json.decode(record, type=Request)


# --- gates ----------------------------------------------------------------------------------------


def set_gates(connection: Transaction, dataset: str, setting: GateSetting) -> None:
    """What an officer has to look at, of a dataset."""
    connection.execute(
        "INSERT OR REPLACE INTO gates (dataset, setting) VALUES (?, ?)", (dataset, msgspec.json.encode(setting))
    )


def gates(connection: sqlite3.Connection) -> dict[str, GateSetting]:
    """The gates of all datasets that have any."""
    rows = connection.execute("SELECT dataset, setting FROM gates")
    return {dataset: msgspec.json.decode(setting, type=GateSetting) for dataset, setting in rows}


# --- the log of decisions -------------------------------------------------------------------------


def log(connection: Transaction, sign: Sign, at: float, kind: str, data: dict[str, object]) -> None:
    """One entry more, which holds the hash of the one before it."""
    row = connection.execute("SELECT number, signed FROM audit_log ORDER BY number DESC LIMIT 1").fetchone()
    number = row[0] + 1 if row else 1
    before = hashlib.sha256(msgspec.msgpack.decode(row[1], type=Signed).payload).hexdigest() if row else ""
    signed = sign(AuditEntry(number, at, kind, data, before))
    connection.execute("INSERT INTO audit_log (number, signed) VALUES (?, ?)", (number, msgspec.msgpack.encode(signed)))


def logged(connection: sqlite3.Connection, after: int, limit: int) -> list[Signed]:
    """Entries behind a number, in order."""
    rows = connection.execute("SELECT signed FROM audit_log WHERE number > ? ORDER BY number LIMIT ?", (after, limit))
    return [msgspec.msgpack.decode(signed, type=Signed) for (signed,) in rows]
