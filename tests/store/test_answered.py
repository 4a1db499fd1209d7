"""Which letters a node has answered."""

from __future__ import annotations

from grid.store import answered
from grid.store.database import Database


async def test_a_letter_is_known_until_its_time_is_over() -> None:
    async with Database(None, "node") as database:
        await database.write(lambda c: answered.add(c, "hello", 100.0, 1.0))
        await database.write(lambda c: answered.add(c, "hello", 100.0, 1.0))
        assert await database.read(lambda c: answered.has(c, "hello"))
        assert not await database.read(lambda c: answered.has(c, "another"))

        await database.write(lambda c: answered.add(c, "another", 300.0, 101.0))
        assert not await database.read(lambda c: answered.has(c, "hello"))
