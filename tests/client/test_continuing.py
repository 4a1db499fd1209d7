"""Downloads over a line that breaks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from grid.client import continuing
from grid.client.calls import Calls
from grid.client.payload import gather
from grid.wire.problems import Unreachable
from tests.cutting import a_line
from tests.transport.daemon import GET, PARTS, RANGES, Daemon, content

MakeCalls = Callable[..., Calls]
SIZE = 4_000_000


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuing, "PAUSES", (0.0, 0.01, 0.01))


async def test_only_the_rest_travels_again(daemon: Daemon, calls: MakeCalls) -> None:
    async with a_line(daemon.address) as line:
        line.cut("down", 1_500_000, 1_000_000)
        async with calls().download(line.address, PARTS, size=SIZE) as (length, blocks):
            got = await gather(blocks, SIZE)

    assert (length, got) == (SIZE, content(SIZE))
    assert line.connections == 3
    assert line.moved["down"] < SIZE * 1.2  # from the start, it would be 6.5 million
    assert [each[:6] for each in daemon.app[RANGES]] == ["all", "bytes=", "bytes="]


async def test_a_line_that_brings_nothing_is_given_up(daemon: Daemon, calls: MakeCalls) -> None:
    async with a_line(daemon.address) as line:
        line.cut("down", 1_500_000, *[1000] * 20)
        async with calls().download(line.address, PARTS, size=SIZE) as (_, blocks):
            with pytest.raises(Unreachable):
                await gather(blocks, SIZE)

    assert 3 <= line.connections <= 6


async def test_another_stream_is_not_taken_for_the_rest(daemon: Daemon, calls: MakeCalls) -> None:
    async with a_line(daemon.address) as line:
        line.cut("down", 1_500_000)
        async with calls().download(line.address, PARTS, size=SIZE + 7) as (_, blocks):
            with pytest.raises(Unreachable):
                await gather(blocks, SIZE + 7)

    assert len(daemon.app[RANGES]) == 2


async def test_a_stream_that_comes_in_no_parts_breaks(daemon: Daemon, calls: MakeCalls) -> None:
    async with a_line(daemon.address) as line:
        line.cut("down", 1_500_000)
        async with calls().download(line.address, GET, name=f"sized-{SIZE}") as (_, blocks):
            with pytest.raises(Unreachable):
                await gather(blocks, SIZE)

    assert line.connections == 1


async def test_a_reader_that_leaves_lets_go_of_the_line(daemon: Daemon, calls: MakeCalls) -> None:
    async with a_line(daemon.address) as line:
        line.cut("down", 1_500_000)
        async with calls().download(line.address, PARTS, size=SIZE) as (_, blocks):
            got = 0
            async for block in blocks:
                got += len(block)
                if got > 2_000_000:
                    break

    assert line.connections == 2
