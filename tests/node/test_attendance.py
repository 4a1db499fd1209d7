"""Who listens, who stays away, and when that is noticed. The clock jumps, nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.node.attendance import FIRST, GRACE, Attendance
from tests.warp import loop_time, warped


class Door:
    """Who came and went, with the seconds since the beginning."""

    def __init__(self) -> None:
        self.began = loop_time()
        self.told: list[tuple[str, str, float]] = []
        self.attendance = Attendance(self._say("gone"), self._say("back"))

    def _say(self, what: str) -> Callable[[str], None]:
        return lambda key: self.told.append((what, key, round(loop_time() - self.began, 1)))


async def after(seconds: float) -> None:
    """Let time pass on the loop."""
    passed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(seconds, passed.set_result, None)
    await passed


def story(tell: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """A test on a loop whose clock jumps."""

    def test() -> None:
        warped(tell())

    test.__name__ = tell.__name__
    return test


@story
async def test_silence_is_noticed_after_the_grace_and_not_before() -> None:
    door = Door()
    with door.attendance.poll("ann"):
        await after(100)

    await after(GRACE - 0.1)
    assert door.attendance.here("ann")
    await after(0.2)

    assert not door.attendance.here("ann")
    assert door.told == [("back", "ann", 0.0), ("gone", "ann", 100 + GRACE)]


@story
async def test_one_poll_after_the_other_is_one_presence() -> None:
    door = Door()
    for _ in range(5):
        with door.attendance.poll("ann"):
            await after(25)
        await after(GRACE / 2)

    assert door.told == [("back", "ann", 0.0)]


@story
async def test_two_polls_at_once_end_with_the_later_one() -> None:
    door = Door()
    with door.attendance.poll("ann"):
        with door.attendance.poll("ann"):
            await after(1)
        await after(50)
        assert door.attendance.here("ann")

    await after(GRACE + 1)
    assert door.told == [("back", "ann", 0.0), ("gone", "ann", 51 + GRACE)]


@story
async def test_whoever_comes_back_is_announced() -> None:
    door = Door()
    with door.attendance.poll("ann"):
        await after(1)
    await after(60)

    with door.attendance.poll("ann"):
        await after(1)

    assert [what for what, _, _ in door.told] == ["back", "gone", "back"]


@story
async def test_whoever_said_that_it_comes_has_a_while_to_come() -> None:
    door = Door()
    door.attendance.expect("ann")
    door.attendance.expect("bob")
    assert door.attendance.here("ann")

    await after(FIRST / 2)
    with door.attendance.poll("ann"):
        await after(FIRST)

    assert door.told == [("gone", "bob", FIRST)]


@story
async def test_a_promise_to_come_does_not_shorten_a_presence() -> None:
    door = Door()
    with door.attendance.poll("ann"):
        door.attendance.expect("ann", within=1)
        await after(10)
        assert door.attendance.here("ann")


@story
async def test_after_closing_nobody_is_reported() -> None:
    door = Door()
    with door.attendance.poll("ann"):
        door.attendance.expect("bob")
        door.attendance.close()

    await after(100)
    assert door.told == [("back", "ann", 0.0)]


@story
async def test_a_poll_that_breaks_ends_as_one_that_does_not() -> None:
    door = Door()
    with pytest.raises(ConnectionResetError), door.attendance.poll("ann"):
        raise ConnectionResetError

    await after(GRACE + 1)
    assert door.told[-1] == ("gone", "ann", GRACE)


Polls = st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 30)), max_size=8)


@given(Polls)
def test_gone_and_back_alternate_whatever_the_polls(polls: list[tuple[float, float]]) -> None:
    async def tell() -> list[str]:
        door = Door()

        async def poll(begin: float, length: float) -> None:
            await after(begin)
            with door.attendance.poll("ann"):
                await after(length)

        await asyncio.gather(*(poll(*each) for each in polls))
        await after(GRACE + 1)
        assert not door.attendance.here("ann")
        return [what for what, _, _ in door.told]

    told = warped(tell())

    assert told == ["back", "gone"] * (len(told) // 2)
    assert bool(told) == bool(polls)
