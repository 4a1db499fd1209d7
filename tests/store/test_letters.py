"""Rows of letters, and the events that tell of them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from grid.store import letters as rows
from grid.store.database import Database
from grid.store.events import since
from grid.store.letters import LetterRow, topic_of
from grid.wire.problems import LetterRepeated

BOX = "k" * 43
HELLO = LetterRow(BOX, "1" * 64, "ann", 5, 100.0)
LATER = LetterRow(BOX, "2" * 64, "ann", 70_000, 200.0)


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    async with Database(None, "gateway") as database:
        yield database


async def told(database: Database) -> list[dict[str, object]]:
    events = await database.read(lambda connection: since(connection, topic_of(BOX), 0))
    return [msgspec.json.decode(event.data) for event in events]


async def test_a_letter_and_the_event_that_tells_of_it_come_together(database: Database) -> None:
    await database.write(lambda c: rows.put(c, HELLO, 1.0, b"hello"))
    await database.write(lambda c: rows.put(c, LATER, 2.0, None))

    assert await told(database) == [
        {"letter": HELLO.id, "size": 5, "body": "aGVsbG8="},
        {"letter": LATER.id, "size": 70_000},
    ]
    assert await database.read(rows.all_letters) == [(HELLO, True), (LATER, True)]


async def test_one_that_was_taken_is_known_until_it_expires(database: Database) -> None:
    await database.write(lambda c: rows.put(c, HELLO, 1.0, b"hello"))
    assert await database.write(lambda c: rows.take(c, BOX, [HELLO.id, LATER.id])) == [HELLO]
    assert await database.write(lambda c: rows.take(c, BOX, [HELLO.id])) == []

    assert await told(database) == []
    with pytest.raises(LetterRepeated):
        await database.write(lambda c: rows.put(c, HELLO, 1.0, b"hello"))
    assert await told(database) == []
    assert await database.read(lambda c: rows.has(c, BOX, HELLO.id))
    assert await database.write(lambda c: rows.expire(c, 100.0)) == [(HELLO, False)]
    assert not await database.read(lambda c: rows.has(c, BOX, HELLO.id))


async def test_one_that_nobody_took_goes_with_its_event(database: Database) -> None:
    await database.write(lambda c: rows.put(c, HELLO, 1.0, b"hello"))
    await database.write(lambda c: rows.put(c, LATER, 1.0, None))

    assert await database.write(lambda c: rows.expire(c, 150.0)) == [(HELLO, True)]
    assert [event["letter"] for event in await told(database)] == [LATER.id]


async def test_mailboxes_are_kept_with_their_newest_prekey(database: Database) -> None:
    await database.write(lambda c: rows.open_mailbox(c, BOX, b"old", 1.0))
    await database.write(lambda c: rows.open_mailbox(c, BOX, b"new", 2.0))
    assert await database.read(rows.all_mailboxes) == [(BOX, b"new", 2.0)]
    await database.write(lambda c: rows.close_mailboxes(c, [BOX]))
    assert await database.read(rows.all_mailboxes) == []
