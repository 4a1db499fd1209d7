"""A coordinator inside a scientist's own process."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from grid.cli.embedded import coordinator
from grid.wire.problems import StrategyRefused, Unreachable
from grid.wire.session import IDENTITY
from tests.grid_of_nodes import SCIENTIST, ANode, Learner, Scientist, plan_of

StartNode = Callable[..., Awaitable[ANode]]


def homes() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("grid-coordinator-*"))


async def test_a_coordinator_here_is_the_scientists_own_and_leaves_nothing(scientist: Scientist) -> None:
    before = homes()
    async with coordinator(SCIENTIST, "127.0.0.1", None) as here:
        assert here.public_key == SCIENTIST.id
        assert (await scientist.calls.call(here.address, IDENTITY)).public_key == SCIENTIST.id
        assert len(homes() - before) == 1

    assert homes() <= before
    with pytest.raises(Unreachable):
        await scientist.calls.call(here.address, IDENTITY)


async def test_participants_are_told_the_address_that_the_scientist_names() -> None:
    async with coordinator(SCIENTIST, "127.0.0.1", "http://laptop.example:7000") as here:
        assert here.address == "http://laptop.example:7000"


async def test_a_run_is_driven_from_here_with_workers_of_its_own(scientist: Scientist, start_node: StartNode) -> None:
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=1.0))
    async with coordinator(SCIENTIST, "127.0.0.1", None) as here:
        run = await scientist.grid(ann, bob).train(plan_of(), "#pulse", rounds=3, coordinator=here.address)

        result = await run.result()

        assert [line.accepted for line in result.history] == [2, 2, 2]


async def test_noise_is_for_sums_so_no_other_way_to_travel_goes_with_it(
    scientist: Scientist, start_node: StartNode
) -> None:
    ann = await start_node("ann")

    with pytest.raises(StrategyRefused, match="int8"):
        await scientist.grid(ann).train(
            plan_of(), "#pulse", clip=1.0, noise=1.0, upload="int8", coordinator=ann.address
        )


async def test_a_node_may_refuse_to_call_back_to_a_private_address(scientist: Scientist, start_node: StartNode) -> None:
    ann, strict = await start_node("ann"), await start_node("strict", allow_private=False)
    async with coordinator(SCIENTIST, "127.0.0.1", None) as here:
        run = await scientist.grid(ann, strict).train(plan_of(), "#pulse", coordinator=here.address)

        assert len((await run.result()).history) == 1

        told = [event.data async for event in run.watch() if event.kind == "participant"]
    (reason,) = [each["reason"] for each in told if each["reason"]]
    assert "--allow-private" in reason
