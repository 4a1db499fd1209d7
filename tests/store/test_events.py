from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator

import pytest

from grid.store import events
from grid.store.database import Database
from grid.store.events import EventLog, append
from grid.wire.problems import NotFound


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "gateway") as db:
        yield db


async def say(db: Database, topic: str, number: int) -> int:
    return await db.write(lambda c: append(c, topic, "said", 1.5, {"number": number}))


async def test_events_are_read_in_order_from_a_cursor(db: Database) -> None:
    log = EventLog(db)
    cursors = [await say(db, topic, n) for n, topic in enumerate(["run/a", "run/b", "run/a"])]

    first, second = await log.since("run/a", 0)
    assert (first.cursor, second.cursor) == (cursors[0], cursors[2])
    assert (first.kind, first.at, json.loads(first.data)) == ("said", 1.5, {"number": 0})
    assert await log.since("run/a", first.cursor) == [second]
    assert await log.since("run/a", 0, limit=1) == [first]
    assert await db.read(lambda c: events.last(c, "run/a")) == cursors[2]
    assert await db.read(lambda c: events.last(c, "run/c")) == 0


async def test_an_event_of_a_change_that_failed_never_happened(db: Database) -> None:
    def fail(connection: events.Transaction) -> None:
        append(connection, "run/a", "said", 0.0, {})
        raise NotFound

    with pytest.raises(NotFound):
        await db.write(fail)

    assert await EventLog(db).since("run/a", 0) == []


async def test_whoever_waits_is_woken_by_the_commit(db: Database) -> None:
    log = EventLog(db)
    waiting = asyncio.ensure_future(log.wait("run/a", 0, seconds=30.0))
    await say(db, "run/b", 0)
    assert not waiting.done()

    cursor = await say(db, "run/a", 1)

    assert [event.cursor for event in await waiting] == [cursor]


async def test_a_write_of_the_loops_own_thread_wakes_too(db: Database) -> None:
    log = EventLog(db)
    waiting = asyncio.ensure_future(log.wait("run/a", 0, seconds=30.0))
    await log.since("run/a", 0)  # the reader has one thread: by now the waiter has looked

    db.write_now(lambda c: append(c, "run/a", "said", 0.0, {}))

    assert len(await waiting) == 1


async def test_waiting_ends_with_the_time_and_leaves_no_bell(db: Database) -> None:
    log = EventLog(db)

    assert await log.wait("run/a", 0, seconds=0.0) == []
    assert await log.wait("run/a", 0, seconds=0.01) == []
    assert log._bells == {}


async def test_a_waiter_that_is_cancelled_leaves_no_bell_and_disturbs_no_other(db: Database) -> None:
    log = EventLog(db)
    waiters = [asyncio.ensure_future(log.wait("run/a", 0, seconds=30.0)) for _ in range(3)]
    await log.since("run/a", 0)
    waiters[0].cancel()
    await say(db, "run/a", 0)

    assert [len(await waiter) for waiter in waiters[1:]] == [1, 1]
    assert log._bells == {}


async def test_closing_lets_go_of_everybody_who_waits(db: Database) -> None:
    log = EventLog(db)
    waiting = asyncio.ensure_future(log.wait("run/a", 0, seconds=30.0))
    await log.since("run/a", 0)

    log.close()

    assert await waiting == []


async def test_pruned_events_are_gone_and_cursors_go_on(db: Database) -> None:
    before = await say(db, "run/a", 0)

    assert await db.write(lambda c: events.prune(c, before=2.0)) == 1

    assert await EventLog(db).since("run/a", 0) == []
    assert await say(db, "run/a", 1) == before + 1


@pytest.mark.parametrize("seed", range(5))
async def test_no_wake_up_is_lost(db: Database, seed: int) -> None:
    """Readers that follow a topic by long-polls alone get every event once, in order, however it falls out."""
    chance, log, topics, each = random.Random(seed), EventLog(db), ["a", "b"], 60

    async def follow(topic: str) -> list[int]:
        cursor, seen = 0, []
        while len(seen) < each:
            news = await log.wait(topic, cursor, seconds=20.0, limit=chance.choice([1, 7, 1000]))
            assert news, "nobody rang"
            cursor = news[-1].cursor
            seen += [json.loads(event.data)["number"] for event in news]
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
        return seen

    async def tell(topic: str) -> None:
        for number in range(each):
            await say(db, topic, number)
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        readers = [group.create_task(follow(topic)) for topic in topics for _ in range(5)]
        for topic in topics:
            group.create_task(tell(topic))

    assert all(reader.result() == list(range(each)) for reader in readers)
