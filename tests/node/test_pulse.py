"""Waiting for something to hold."""

from __future__ import annotations

import asyncio

import pytest

from grid.node.pulse import Over, Pulse


async def test_who_waits_looks_again_at_each_beat() -> None:
    pulse, seen = Pulse(), list[int]()
    waiting = asyncio.create_task(pulse.until(lambda: len(seen) == 2))

    for number in range(2):
        await asyncio.sleep(0)
        assert not waiting.done()
        seen.append(number)
        pulse.beat()

    await waiting


async def test_after_its_time_the_wait_is_over_whatever_holds() -> None:
    await Pulse().until(lambda: False, within=0.0)


async def test_a_stop_ends_a_wait_now_and_later() -> None:
    pulse = Pulse()
    waiting = asyncio.create_task(pulse.until(lambda: False))
    await asyncio.sleep(0)
    pulse.stop("enough")

    with pytest.raises(Over):
        await waiting
    with pytest.raises(Over):
        await pulse.until(lambda: False)
    assert pulse.reason == "enough"


async def test_only_the_last_ring_that_was_asked_for_rings() -> None:
    pulse, rung, done = Pulse(), list[str](), asyncio.Event()
    pulse.ring(0.0, lambda: rung.append("first"))
    pulse.ring(-1.0, done.set)

    await done.wait()

    assert rung == []
    pulse.close()
