"""When rounds are looked at: whenever one may have moved, and when the time of one is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from grid.node.tasks.watch import Watch
from grid.store import events
from grid.store.database import Database
from grid.wire.problems import Draining


class Rounds:
    """As much of what has rounds as is looked at."""

    def __init__(self, database: Database) -> None:
        self.database, self.changed = database, asyncio.Event()
        self.looked, self.fails = asyncio.Semaphore(0), False

    @property
    def now(self) -> Callable[[], float]:
        return lambda: 0.0

    async def look(self) -> None:
        self.looked.release()
        if self.fails:
            raise Draining


@pytest.mark.parametrize(("topic", "rings"), [("task/series-1", True), ("task/other", False), ("run/x", False)])
async def test_a_commit_on_one_of_its_tasks_is_looked_at_and_a_look_that_fails_ends_nothing(
    tmp_path: Path, topic: str, rings: bool
) -> None:
    async with Database(tmp_path / "node.db", "node") as database:
        rounds = Rounds(database)
        rounds.fails = True
        watching = asyncio.ensure_future(Watch(rounds, prefix="series-").keep(rounds.look, rest=0.0))
        await rounds.looked.acquire()
        await database.write(lambda connection: events.append(connection, topic, "moved", 0.0, {}))

        if not rings:
            assert not rounds.changed.is_set()
            rounds.changed.set()
        async with asyncio.timeout(5):
            await rounds.looked.acquire()
        assert not watching.done()
        watching.cancel()
