"""How long a mailbox is held open by one question."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from grid.client.mailbox import AGAIN, REOPEN, WAIT, Mailbox, Patience, Waiting
from grid.client.writing import MemoryPrekeys
from grid.crypto.identity import Identity
from grid.wire.endpoint import Endpoint
from grid.wire.problems import Draining, GridError, Unreachable
from grid.wire.relay import LETTERS, LONGEST_WAIT, Reading
from grid.wire.runs import Events

ANN = Identity.from_seed(b"ann".ljust(32))
Told = Events | GridError


class Quiet:
    """A gateway where nothing comes, as calls meet it: what it `says` to a question, after how many seconds."""

    def __init__(self, says: Callable[[int], tuple[float, Told]], enough: int) -> None:
        self._says, self._enough, self.waits, self.opened = says, enough, list[float](), 0
        self.done = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._ahead, self._time = 0.0, self._loop.time
        self._loop.time = lambda: self._time() + self._ahead  # type: ignore[method-assign]

    async def call(self, _: str, endpoint: Endpoint[Any, Any], *__: Any, **options: Any) -> Any:
        if endpoint is not LETTERS:
            self.opened += 1
            return None
        query = options["query"]
        assert isinstance(query, Reading)
        assert options["deadline"] == query.wait + AGAIN
        if len(self.waits) == self._enough:
            self.done.set()
            await asyncio.Event().wait()
        taken, told = self._says(len(self.waits))
        self.waits.append(query.wait)
        self._ahead += min(taken, query.wait)
        if isinstance(told, GridError) and taken < query.wait:
            raise told
        return Events((), 0)


async def waits(says: Callable[[int], tuple[float, Told]], enough: int) -> list[float]:
    """The waits of the first questions, in seconds."""
    quiet = Quiet(says, enough)

    async def heard(_: Waiting) -> None:
        raise AssertionError("nothing comes")

    calls: Any = quiet
    reading = asyncio.ensure_future(
        Mailbox(calls, "http://gateway.example", ANN.id, MemoryPrekeys(ANN, time.time), heard).read()
    )
    await quiet.done.wait()
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return quiet.waits


async def test_a_mailbox_is_held_open_for_longer_and_longer() -> None:
    asked = await waits(lambda _: (LONGEST_WAIT, Events((), 0)), 9)

    assert asked[:4] == [WAIT, 2 * WAIT, 4 * WAIT, 8 * WAIT]
    assert asked[-1] == asked[-2] == LONGEST_WAIT * (1 - ANN.public[0] / 255 / 4)


async def test_behind_what_cuts_quiet_lines_it_is_asked_for_each_minute() -> None:
    asked = await waits(lambda _: (60.0, Unreachable("HTTP status 504")), 8)

    assert asked == [WAIT, 2 * WAIT, *[WAIT] * 6]  # 55 seconds pass, 110 do not


async def test_after_an_hour_it_is_tried_again() -> None:
    asked = await waits(lambda _: (60.0, Unreachable("HTTP status 504")), 100)

    tried = [place for place, wait in enumerate(asked) if wait > WAIT]
    assert tried == [1, 1 + int(REOPEN / WAIT) + 2]


async def test_a_gateway_that_stops_is_no_line_that_is_cut() -> None:
    asked = await waits(lambda number: (0.0, Draining()) if number == 2 else (LONGEST_WAIT, Events((), 0)), 5)

    assert asked == [WAIT, 2 * WAIT, 4 * WAIT, WAIT, 2 * WAIT]


@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0])
def test_no_wait_is_longer_than_a_gateway_takes(spread: float) -> None:
    patience = Patience(spread)
    for _ in range(20):
        patience.kept(0.0)

    assert 0.75 * LONGEST_WAIT <= patience.wait <= LONGEST_WAIT
