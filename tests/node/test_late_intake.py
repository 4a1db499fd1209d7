"""Updates that began with an earlier model: counted in the step that is open, by their age, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from grid.client.run import AsyncRun
from grid.learning.strategy import FEDAVG, PRESETS, Asynchronous, Buffered, Mean, Strategy, named
from grid.node.late_intake import steps_of
from grid.protocol.staleness import Steps
from grid.wire.problems import RoundClosed, RunNotFound, UpdateRefused, UpdateRepeated
from tests.grid_of_nodes import ANode, Learner, Puppet, Scientist, Story, a_node, numbers, plan_of, quorum

StartNode = Callable[..., Awaitable[ANode]]
StartPuppet = Callable[..., Awaitable[Puppet]]

UNIFORM = Mean(weight="uniform")
HALVES = Strategy(aggregation=UNIFORM, timing=Asynchronous(alpha=0.5, staleness=1.0, oldest=2))
"""Each update half of the way; one that is a step old a quarter, two a sixth."""


def in_pairs(**words: Any) -> Strategy:
    return Strategy(aggregation=UNIFORM, timing=Buffered(**{"size": 2, "staleness": 1.0, **words}))


async def started(
    scientist: Scientist, coordinator: ANode, puppets: list[Puppet], strategy: Strategy, **words: Any
) -> tuple[AsyncRun, Story]:
    run = await scientist.start(coordinator, puppets, strategy=msgspec.to_builtins(strategy), **words)
    for puppet in puppets:
        await puppet.takes_part(run)
    story = Story(run)
    for puppet in puppets:
        await story.until("participant", node=puppet.id, state="ready")
    await story.until("round-opened", round=1)
    return run, story


def test_a_strategy_says_what_a_step_takes() -> None:
    assert steps_of(FEDAVG) is None
    assert steps_of(named("fedbuff", size=3, oldest=7)) == Steps(3, 7)
    assert steps_of(PRESETS["fedasync"]) == Steps(1, 100)


async def test_an_update_of_an_earlier_model_moves_the_present_one_by_its_age(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run, story = await started(scientist, coordinator, [ann, bob], HALVES, rounds=3, quorum=quorum(2))
    model = numbers(plan_of().initial)

    await ann.updates(1, [1.0] * 4)  # round 1: half of the way to 1
    await story.until("round-opened", round=2)
    counted = await bob.updates(1, [3.0] * 4)  # round 2: it began a step ago, so a quarter of the way to 3
    await story.until("round-opened", round=3)
    await ann.updates(3, [0.0] * 4)
    await run.result()

    expected = ((model + (1 - model) / 2) * 3 / 4 + 3 / 4) / 2
    np.testing.assert_allclose(numbers((await run.checkpoint()).initial), expected, rtol=1e-6)
    assert counted.round == 2
    closed = [await story.until("round-closed", round=number) for number in (1, 2, 3)]
    assert [each["staleness"] for each in closed] == [{}, {"bob": 1}, {}]
    assert [each["accepted"] for each in closed] == [1, 1, 1]
    assert (await story.until("update", node="bob"))["staleness"] == 1


async def test_a_buffer_is_a_step_of_fresh_and_late_updates_together(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob, cid = await start_puppet("ann"), await start_puppet("bob"), await start_puppet("cid")
    run, story = await started(scientist, coordinator, [ann, bob, cid], in_pairs(), rounds=2, quorum=quorum(3))
    model = numbers(plan_of().initial)

    await ann.updates(1, [1.0] * 4)  # deltas
    await bob.updates(1, [3.0] * 4)
    await story.until("round-opened", round=2)
    await cid.updates(1, [4.0] * 4)  # counts a half
    await ann.updates(2, [6.0] * 4)
    await run.result()

    np.testing.assert_allclose(numbers((await run.checkpoint()).initial), model + 2 + (4 / 2 + 6) / 2, rtol=1e-6)


async def test_what_is_too_old_is_refused_and_says_so(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run, story = await started(scientist, coordinator, [ann, bob], HALVES, rounds=5, quorum=quorum(2))
    for number in (1, 2, 3):
        await ann.updates(number, [1.0] * 4)
        await story.until("round-opened", round=number + 1)

    with pytest.raises(RoundClosed, match="3 steps ago; at most 2 are taken"):
        await bob.updates(1, [9.0] * 4)

    await bob.updates(4, [1.0] * 4)
    await story.until("round-opened", round=5)
    await ann.updates(5, [1.0] * 4)
    assert [line.accepted for line in (await run.result()).history] == [1] * 5


async def test_what_was_made_of_one_model_counts_once_whenever_it_comes_again(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    _, story = await started(scientist, coordinator, [ann, bob], HALVES, rounds=4, quorum=quorum(2))
    await ann.updates(1, [1.0] * 4)
    await story.until("round-opened", round=2)
    await bob.updates(1, [1.0] * 4)
    await story.until("round-opened", round=3)

    for puppet in (ann, bob):
        with pytest.raises(UpdateRepeated):
            await puppet.updates(1, [9.0] * 4)
    with pytest.raises(RoundClosed, match="round 4 is not open"):
        await bob.updates(4, [9.0] * 4)


async def test_a_node_counts_once_in_each_buffer(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob, cid = await start_puppet("ann"), await start_puppet("bob"), await start_puppet("cid")
    run, story = await started(scientist, coordinator, [ann, bob, cid], in_pairs(), rounds=2, quorum=quorum(3))
    await ann.updates(1, [1.0] * 4)
    await bob.updates(1, [1.0] * 4)
    await story.until("round-opened", round=2)
    await cid.updates(1, [1.0] * 4)

    with pytest.raises(RoundClosed, match="an update of this node already"):
        await cid.updates(2, [1.0] * 4)

    await ann.updates(2, [1.0] * 4)
    assert (await run.result()).history[1].accepted == 2


async def test_a_late_update_that_cannot_be_counted_is_refused_and_the_step_goes_on(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run, story = await started(scientist, coordinator, [ann, bob], HALVES, rounds=2, quorum=quorum(2))
    await ann.updates(1, [1.0] * 4)
    await story.until("round-opened", round=2)

    with pytest.raises(UpdateRefused, match="not finite"):
        await bob.updates(1, [np.nan] * 4)

    await ann.updates(2, [1.0] * 4)
    await run.result()
    assert "not finite" in (await story.until("round-closed", round=2))["rejected"]["bob"]


async def test_many_at_once_make_as_many_steps_and_the_rest_is_told_that_there_are_no_more(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    puppets = [await start_puppet(name) for name in ("ann", "bob", "cid", "dan")]
    run, _ = await started(scientist, coordinator, puppets, HALVES, rounds=2, quorum=quorum(4))

    came = await asyncio.gather(*(p.updates(1, [1.0] * 4) for p in puppets), return_exceptions=True)

    assert sorted(type(each).__name__ for each in came if not isinstance(each, (RoundClosed, RunNotFound))) == [
        "Counted",
        "Counted",
    ]
    assert [line.accepted for line in (await run.result()).history] == [1, 1]


async def test_a_coordinator_that_is_back_sums_late_updates_by_the_same_age(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob, cid = await start_puppet("ann"), await start_puppet("bob"), await start_puppet("cid")
    run, story = await started(scientist, coordinator, [ann, bob, cid], in_pairs(), rounds=2, quorum=quorum(3))
    model = numbers(plan_of().initial)
    await ann.updates(1, [1.0] * 4)
    await bob.updates(1, [3.0] * 4)
    await story.until("round-opened", round=2)
    await cid.updates(1, [4.0] * 4)
    port = int(coordinator.address.rpartition(":")[2])

    await coordinator.stop()
    back = await a_node("coordinator", coordinator.folder, data=False, port=port)
    try:
        with pytest.raises(UpdateRepeated):
            await cid.updates(1, [4.0] * 4)
        await ann.updates(2, [6.0] * 4)
        await run.result()

        np.testing.assert_allclose(numbers((await run.checkpoint()).initial), model + 2 + (4 / 2 + 6) / 2, rtol=1e-6)
        assert (await Story(run).until("round-closed", round=2))["staleness"] == {"cid": 1}
    finally:
        await back.stop()


async def test_a_slow_node_goes_on_training_while_rounds_pass_and_its_update_counts(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=-1.0))
    bob.learner.may_go_on.clear()
    strategy = msgspec.to_builtins(named("fedasync", oldest=1000))
    run = await scientist.start(coordinator, [ann, bob], rounds=40, strategy=strategy, quorum=quorum(2), holdout=0.2)
    story = Story(run)
    await bob.learner.began.wait()
    await story.until("round-opened", round=4)

    bob.learner.may_go_on.set()

    late = await story.until("update", node="bob")
    assert late["staleness"] >= 3
    assert bob.learner.opened == 1  # nothing of its work was broken off
    assert (await story.until("round-closed", round=late["round"]))["staleness"] == {"bob": late["staleness"]}
    assert (await story.until("run-ended"))["state"] == "success"


async def test_work_that_would_be_too_old_is_broken_off_and_begun_anew(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=-1.0))
    bob.learner.may_go_on.clear()
    strategy = msgspec.to_builtins(named("fedasync", oldest=2))
    run = await scientist.start(coordinator, [ann, bob], rounds=40, strategy=strategy, quorum=quorum(2))
    story = Story(run)
    await bob.learner.began.wait()
    await story.until("round-opened", round=4)

    bob.learner.began.clear()
    await bob.learner.began.wait()

    assert bob.learner.opened >= 2
    bob.learner.may_go_on.set()
    assert (await story.until("run-ended"))["state"] == "success"


async def test_a_node_that_is_slow_beyond_the_last_step_does_not_hold_up_the_end(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann"), await start_node("bob")
    bob.learner.may_go_on.clear()
    strategy = msgspec.to_builtins(PRESETS["fedasync"])
    run = await scientist.start(coordinator, [ann, bob], rounds=3, strategy=strategy, quorum=quorum(2), holdout=0.2)
    await bob.learner.began.wait()

    async with asyncio.timeout(10):
        result = await run.result()

    assert [line.accepted for line in result.history] == [1, 1, 1]
    for node in (coordinator, ann, bob):
        await node.quiet()
