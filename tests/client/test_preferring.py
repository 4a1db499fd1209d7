"""Several directories as one: what is asked of them, in which order, and what is made of their silence."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from grid.client.preferring import PATIENCE, REST, Preferring
from grid.wire.directory import Found, Join, Joined, Leave, Member, Renew, Renewed, Search
from grid.wire.problems import GridError, NotAMember, Unreachable
from tests.warp import loop_time, warped

JOIN, RENEW, SEARCH = Join("n", "http://n:1"), Renew("n"), Search(("#a",))


@dataclass
class Played:
    """A directory that lists what it is told to, fails as it is told to, or says nothing."""

    lists: tuple[str, ...] = ()
    fails: GridError | None = None
    silent: bool = False
    lease: float = 90.0
    asked: int = field(default=0)

    async def join(self, join: Join) -> Joined:
        await self._answer()
        return Joined("listed", "online", self.lease, True)

    async def renew(self, renew: Renew) -> Renewed:
        await self._answer()
        return Renewed("online", self.lease)

    async def leave(self, leave: Leave) -> None:
        await self._answer()

    async def search(self, search: Search) -> Found:
        await self._answer()
        return Found(tuple((name, "http://n:1") for name in self.lists))

    async def resolve(self, node_id: str) -> Member:
        await self._answer()
        if node_id not in self.lists:
            raise NotAMember(node_id)
        return Member(node_id, "http://n:1", "online", True, 9.0)

    async def witness(self, node: str, peer: bytes) -> int:
        await self._answer()
        return len(self.lists)

    async def _answer(self) -> None:
        self.asked += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.fails is not None:
            raise self.fails


def both(one: Played, two: Played) -> Preferring:
    return Preferring([one, two], loop_time)


async def names(directory: Preferring) -> list[str]:
    return [name for name, _ in (await directory.search(SEARCH)).node_addresses]


@pytest.mark.parametrize("one", [Played(fails=Unreachable("gone")), Played(silent=True), Played()])
def test_where_the_first_knows_nobody_or_says_nothing_the_second_answers_in_time(one: Played) -> None:
    async def story() -> float:
        assert await names(both(one, Played(("x",)))) == ["x"]
        return loop_time()

    assert warped(story()) <= PATIENCE < 3.0


def test_who_was_silent_is_asked_last_for_a_while_and_then_first_again() -> None:
    async def story() -> None:
        one, two = Played(("one",), silent=True), Played(("two",))
        directory = both(one, two)
        assert await names(directory) == ["two"]
        before = loop_time()
        assert await names(directory) == ["two"]
        assert (loop_time(), one.asked) == (before, 1)
        one.silent = False
        async with asyncio.timeout(REST + 1):
            while await names(directory) == ["two"]:
                asyncio.get_running_loop().call_later(1.0, (tick := asyncio.Event()).set)
                await tick.wait()
        assert await names(directory) == ["one"]

    warped(story())


def test_a_name_that_the_first_does_not_know_is_asked_of_the_second() -> None:
    async def story() -> None:
        directory = both(Played(), Played(("x",)))
        assert (await directory.resolve("x")).node_id == "x"
        with pytest.raises(NotAMember):
            await directory.resolve("y")

    warped(story())


def test_to_be_listed_is_to_be_listed_by_all_that_can_be_reached() -> None:
    async def story() -> None:
        one, two = Played(fails=Unreachable("gone")), Played(lease=60.0)
        directory = both(one, two)
        assert (await directory.join(JOIN)).lease == 60.0
        assert (await directory.renew(RENEW)).lease == 60.0
        await directory.leave(Leave("n", "http://n:1"))
        one.fails = NotAMember("forgot")
        with pytest.raises(NotAMember):
            await directory.renew(RENEW)
        one.fails = two.fails = Unreachable("all gone")
        for call in (directory.join(JOIN), directory.search(SEARCH), directory.renew(RENEW), directory.resolve("x")):
            with pytest.raises(Unreachable):
                await call
        one.fails = two.fails = None
        assert await directory.witness("http://n:1", b"") == 0

    warped(story())
