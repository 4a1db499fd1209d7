"""Secure sums over HTTP: whole runs of nodes whose updates nobody sees, and what each side refuses."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from grid.learning.strategy import PRESETS, noised, travelling
from grid.node import summing
from grid.node.clipping import Clipping
from grid.privacy.accounting import epsilon_of
from grid.wire.problems import RunRefused, StrategyRefused
from grid.wire.runs import After
from tests.grid_of_nodes import MASKED, ANode, Learner, Scientist, Story, a_node, numbers, plan_of, quorum

StartNode = Callable[..., Awaitable[ANode]]

NAMES = ("ann", "bob", "cid", "dan")


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for longer than a test takes."""
    monkeypatch.setattr(summing, "STEP", 1.0)
    monkeypatch.setattr(summing, "SOON", 0.1)


async def four(start_node: StartNode, **words: Any) -> list[ANode]:
    """Nodes with different goals and amounts of data."""
    return [
        await start_node(name, Learner(goal=float(at), examples=10 * (at + 1), held_out=at + 1, **words))
        for at, name in enumerate(NAMES)
    ]


def weighted(values: list[np.ndarray]) -> np.ndarray:
    """The mean of what these nodes made, by their examples."""
    return np.average(values, axis=0, weights=[10 * (at + 1) for at in range(len(values))])


async def test_a_run_under_masks_comes_to_the_weighted_mean(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes, plan = await four(start_node), plan_of()

    run = await scientist.start(coordinator, nodes, plan, rounds=3, quorum=quorum(4), strategy=MASKED, holdout=0.2)
    result = await run.result()

    model = numbers(plan.initial)
    for _ in range(3):
        model = weighted([(model + at) / 2 for at in range(4)]).astype(np.float32)
    np.testing.assert_allclose(numbers(result.plan.initial), model, atol=1e-5)
    assert [(line.accepted, line.examples) for line in result.history] == [(4, 100)] * 3


async def test_no_single_nodes_numbers_are_told_to_anybody(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await four(start_node)
    run = await scientist.start(coordinator, nodes, rounds=2, quorum=quorum(4), strategy=MASKED, holdout=0.2)
    result, story = await run.result(), Story(run)

    counted = [await story.until("update", round=1, node=name) for name in NAMES]

    assert [(told["examples"], told["metrics"]) for told in counted] == [(1, {})] * 4
    assert [line.by_node for line in (await run.catch_up()).lines()] == [{}, {}]
    measured = await story.until("evaluated", round=1)
    one = numbers(plan_of().initial)
    after = weighted([(one + at) / 2 for at in range(4)])
    loss = np.average([np.abs(after - at).mean() for at in range(4)], weights=[1, 2, 3, 4])
    assert measured["metrics"]["loss"] == pytest.approx(float(loss), abs=1e-3)
    assert (measured["nodes"], measured["examples"], len(result.history)) == (4, 10, 2)


async def test_a_node_that_goes_away_before_its_vector_is_left_out_of_the_sum(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes, plan = await four(start_node), plan_of()
    nodes[3].learner.may_go_on.clear()
    run = await scientist.start(coordinator, nodes, plan, quorum=quorum(3), strategy=MASKED, deadline=3.0)
    await nodes[3].learner.began.wait()

    result = await run.result()

    model = weighted([(numbers(plan.initial) + at) / 2 for at in range(3)])
    np.testing.assert_allclose(numbers(result.plan.initial), model, atol=1e-5)
    assert [line.accepted for line in result.history] == [3]
    nodes[3].learner.may_go_on.set()


async def test_a_run_of_two_nodes_is_refused_for_each_would_know_the_other(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann"), await start_node("bob")

    with pytest.raises(RunRefused, match="needs 3 updates"):
        await scientist.start(coordinator, [ann, bob], quorum=quorum(2), strategy=MASKED)


async def test_an_owner_may_insist_on_sums(scientist: Scientist, coordinator: ANode, start_node: StartNode) -> None:
    nodes = [await start_node(name, sums_only=True) for name in NAMES[:3]]

    plain = await scientist.start(coordinator, nodes)
    with pytest.raises(RunRefused, match="may only be seen summed"):
        await plain.result()
    assert (await scientist.start(coordinator, nodes, quorum=quorum(3), strategy=MASKED)).id


async def test_an_owner_may_insist_on_many(scientist: Scientist, coordinator: ANode, start_node: StartNode) -> None:
    nodes = [await start_node(name, sum_nodes=5) for name in NAMES]

    run = await scientist.start(coordinator, nodes, quorum=quorum(4), strategy=MASKED)

    with pytest.raises(RunRefused, match="4 nodes in the roster, this node asks for 5"):
        await run.result()


async def test_a_sum_does_not_wait_for_whoever_said_that_it_cannot(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "STEP", 60.0)
    nodes = [*await four(start_node), await start_node("eve", sum_nodes=9)]

    run = await scientist.start(coordinator, nodes, quorum=quorum(4), strategy=MASKED)

    async with asyncio.timeout(20):
        (line,) = (await run.result()).history
    assert (line.accepted, set(line.failed)) == (4, {"eve"})


@pytest.mark.parametrize("name", ["median", "krum", "bulyan", "q-fedavg", "scaffold", "fedbuff"])
def test_a_rule_that_looks_at_each_update_does_not_go_with_masks(name: str) -> None:
    with pytest.raises(StrategyRefused):
        travelling(PRESETS[name], upload="masked")


async def test_the_sum_waits_for_the_last_one_that_trains(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await four(start_node)
    nodes[0].learner.may_go_on.clear()
    run = await scientist.start(coordinator, nodes, quorum=quorum(4), strategy=MASKED)
    await asyncio.gather(*(node.learner.began.wait() for node in nodes))
    story = Story(run)
    await story.until("update", node="dan")

    nodes[0].learner.may_go_on.set()

    assert (await run.result()).history[0].accepted == 4


async def test_a_node_that_is_restarted_in_the_middle_of_a_sum_is_in_the_next_one_of_the_same_round(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, tmp_path: Path
) -> None:
    plan = plan_of()
    ann, bob = [await start_node(name, Learner(goal=float(at))) for at, name in enumerate(NAMES[:2])]
    cid = await a_node("cid", tmp_path / "cid", Learner(goal=2.0))
    cid.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann, bob, cid], plan, rounds=2, quorum=quorum(3), strategy=MASKED)
    story = Story(run)
    await story.until("update", round=1, node="ann")
    await cid.learner.began.wait()
    await cid.stop()

    again = await start_node("cid", Learner(goal=2.0))
    result = await run.result()

    assert (await story.until("round-broken"))["round"] == 1
    assert [line.accepted for line in result.history] == [3, 3]
    model = numbers(plan.initial)
    for _ in range(2):
        model = np.mean([(model + at) / 2 for at in range(3)], axis=0).astype(np.float32)
    np.testing.assert_allclose(numbers(result.plan.initial), model, atol=1e-5)
    await again.quiet()


async def test_a_coordinator_that_is_restarted_holds_the_round_anew(
    scientist: Scientist, start_node: StartNode, tmp_path: Path
) -> None:
    plan = plan_of()
    carol = await a_node("carol", tmp_path / "carol")
    nodes = [await start_node(name, Learner(goal=float(at))) for at, name in enumerate(NAMES[:3])]
    nodes[2].learner.may_go_on.clear()
    run = await scientist.start(carol, nodes, plan, quorum=quorum(3), strategy=MASKED)
    await Story(run).until("update", round=1, node="ann")
    await carol.stop()
    nodes[2].learner.may_go_on.set()

    again = await a_node("carol", tmp_path / "carol", port=int(carol.address.rpartition(":")[2]))
    result = await run.result()

    assert [line.accepted for line in result.history] == [3]
    model = np.mean([(numbers(plan.initial) + at) / 2 for at in range(3)], axis=0)
    np.testing.assert_allclose(numbers(result.plan.initial), model, atol=1e-5)
    await again.stop()


NOISY = msgspec.to_builtins(noised(PRESETS["fedavg"], 1.0, 0.5, 3))


async def test_a_noised_run_tells_what_it_costs_and_each_node_keeps_account(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await four(start_node)

    run = await scientist.start(coordinator, nodes, rounds=2, quorum=quorum(3), strategy=NOISY, holdout=0.2)
    result = await run.result()

    story = Story(run)
    costs = [(await story.until("round-closed", round=number))["privacy"] for number in (1, 2)]
    assert costs[0] == {"epsilon": epsilon_of(1e-5, 0.5, 1), "delta": 1e-5}
    assert costs[1]["epsilon"] > costs[0]["epsilon"]
    assert [(line.epsilon, line.examples) for line in result.history] == [(cost["epsilon"], 0) for cost in costs]
    await nodes[0].quiet()
    mine = (await nodes[0].open.means.records.part_events(run.id, After())).events
    assert [event.data["epsilon"] for event in mine if event.kind == "trained"] == [cost["epsilon"] for cost in costs]


FOLLOWING = msgspec.to_builtins(noised(PRESETS["fedavg"], 1.0, 0.5, 3, 0.5))


async def test_a_clip_follows_what_nodes_learn_through_a_restart_of_the_coordinator(
    scientist: Scientist, start_node: StartNode, tmp_path: Path
) -> None:
    carol, nodes = await a_node("carol", tmp_path / "carol"), await four(start_node)
    run = await scientist.start(carol, nodes, rounds=5, quorum=quorum(3), strategy=FOLLOWING)
    story = Story(run)
    await story.until("round-closed", round=2)
    await carol.stop()

    again = await a_node("carol", tmp_path / "carol", port=int(carol.address.rpartition(":")[2]))
    await run.result()

    told = [(await story.until("round-closed", round=number))["privacy"] for number in range(1, 6)]
    assert told[0]["clip"] == 1.0
    rule = noised(PRESETS["fedavg"], 1.0, 0.5, 3, 0.5).upload
    for one, other in itertools.pairwise(told):
        assert other["clip"] == pytest.approx(rule.after(one["clip"], one["inside"]))
    await nodes[0].quiet()
    mine = (await nodes[0].open.means.records.part_events(run.id, After())).events
    kept = [event.data["clip"] for event in mine if event.kind == "trained"]
    assert set(kept) == {each["clip"] for each in told}
    await again.stop()


async def test_a_node_gives_nothing_to_a_round_whose_clip_does_not_follow(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Clipping, "told", lambda self: {"clip": 2.0})
    nodes = await four(start_node)

    run = await scientist.start(coordinator, nodes, quorum=quorum(3), strategy=FOLLOWING)

    with pytest.raises(RunRefused, match=r"a clip of 2\.0, which does not follow"):
        await run.result()


async def test_a_node_gives_nothing_to_a_sum_whose_survivors_bring_too_little_noise(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await four(start_node)
    strategy = msgspec.to_builtins(noised(PRESETS["fedavg"], 1.0, 1.0, 5))

    with pytest.raises(RunRefused, match="needs 5 updates"):
        await scientist.start(coordinator, nodes, quorum=quorum(4), strategy=strategy)
