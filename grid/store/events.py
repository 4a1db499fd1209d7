"""The one event log: what happened, in order, appended in the transaction that made it happen.

Whoever was away reads on from its cursor; whoever waits is woken by the commit. Nothing polls.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import Any

import msgspec

from grid.store.database import Database
from grid.store.schema import Transaction

LIMIT = 1000
"""Events that one reading gives at most."""

ENDS = 100_000
"""Topics that are remembered to have been read to their end."""


class Event(msgspec.Struct, frozen=True):
    """One entry: `cursor` orders all entries of the database, `data` is JSON and depends on `kind`."""

    cursor: int
    topic: str
    kind: str
    at: float
    data: bytes


def append(connection: Transaction, topic: str, kind: str, at: float, data: object) -> int:
    """Add an event inside the caller's transaction; its cursor. `data`: a message, or what JSON can say."""
    cursor = connection.execute(
        "INSERT INTO events (topic, kind, at, data) VALUES (?, ?, ?, ?)", (topic, kind, at, msgspec.json.encode(data))
    )
    connection.topics.add(topic)
    return cursor.lastrowid or 0


def since(connection: sqlite3.Connection, topic: str, cursor: int, limit: int = LIMIT) -> list[Event]:
    """The events of a topic behind a cursor, oldest first."""
    rows = connection.execute(
        "SELECT cursor, topic, kind, at, data FROM events WHERE topic = ? AND cursor > ? ORDER BY cursor LIMIT ?",
        (topic, cursor, limit),
    )
    return [Event(*row) for row in rows]


def of_kind(connection: sqlite3.Connection, topic: str, kind: str) -> list[Event]:
    """All events of one kind in a topic, oldest first."""
    rows = connection.execute(
        "SELECT cursor, topic, kind, at, data FROM events WHERE topic = ? AND kind = ? ORDER BY cursor", (topic, kind)
    )
    return [Event(*row) for row in rows]


def trained_since(connection: sqlite3.Connection, at: float) -> list[tuple[float, dict[str, Any]]]:
    """When something was trained here since a time (UTC seconds), in any topic, and what was said of it."""
    rows = connection.execute("SELECT at, data FROM events WHERE kind = 'trained' AND at >= ? ORDER BY at", (at,))
    return [(when, msgspec.json.decode(data)) for when, data in rows]


def last(connection: sqlite3.Connection, topic: str) -> int:
    """The cursor of a topic's newest event, 0 if there is none."""
    (cursor,) = connection.execute("SELECT COALESCE(MAX(cursor), 0) FROM events WHERE topic = ?", (topic,)).fetchone()
    return int(cursor)


def prune(connection: Transaction, before: float) -> int:
    """Forget the events before a time (UTC seconds); how many. Cursors are never used again."""
    return connection.execute("DELETE FROM events WHERE at < ?", (before,)).rowcount


class EventLog:
    """Reads the log, and wakes those who wait for a topic when a commit of this process added to it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bells: dict[str, set[asyncio.Future[None]]] = {}
        self._ends: dict[str, int] = {}  # of topics that were read to their end, and had no commit since
        self._closed = False
        database.on_commit.append(self._ring)

    async def since(self, topic: str, cursor: int, limit: int = LIMIT) -> list[Event]:
        """The events of a topic behind a cursor, oldest first."""
        return await self._database.read(lambda connection: since(connection, topic, cursor, limit))

    async def wait(self, topic: str, cursor: int, seconds: float, limit: int = LIMIT) -> list[Event]:
        """As `since`; if there are none, wait up to `seconds` for the next ones. Empty: the time is over."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while True:
            bell: asyncio.Future[None] = loop.create_future()
            self._bells.setdefault(topic, set()).add(bell)  # hung before reading: a commit in between rings it
            try:
                events = await self._behind(topic, cursor, limit, bell)
                if events or self._closed or loop.time() >= until:
                    return events
                timer = loop.call_at(until, _rung, bell)
                try:
                    await bell
                finally:
                    timer.cancel()
            finally:
                self._take_down(topic, bell)

    def close(self) -> None:
        """Let go of everybody who waits; from here on nobody does."""
        self._closed = True
        self._ring(frozenset(self._bells))

    async def _behind(self, topic: str, cursor: int, limit: int, bell: asyncio.Future[None]) -> list[Event]:
        """As `since`, without asking the disk for what is known: whoever reads on is mostly at the end already."""
        if self._ends.get(topic, cursor + 1) <= cursor:
            return []
        events = await self.since(topic, cursor, limit)
        if not bell.done() and len(events) < limit:
            if len(self._ends) >= ENDS:  # listeners may name topics of their own making
                self._ends.clear()
            self._ends[topic] = events[-1].cursor if events else cursor
        return events

    def _take_down(self, topic: str, bell: asyncio.Future[None]) -> None:
        if waiting := self._bells.get(topic):
            waiting.discard(bell)
            if not waiting:
                del self._bells[topic]

    def _ring(self, topics: frozenset[str]) -> None:
        for topic in topics:
            self._ends.pop(topic, None)
        for topic in topics & self._bells.keys():
            for bell in self._bells.pop(topic):
                _rung(bell)


def _rung(bell: asyncio.Future[None]) -> None:
    if not bell.done():
        bell.set_result(None)
