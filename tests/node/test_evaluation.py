"""What participants measure: who sees it, and when it ends a run."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.wire.problems import RunNotFound, RunRefused
from grid.wire.runs import RUN_METRICS, After, Report, Since, Stopping
from tests.grid_of_nodes import ANode, Learner, Puppet, Scientist, Story, a_node, numbers, plan_of

StartNode = Callable[..., Awaitable[ANode]]
StartPuppet = Callable[..., Awaitable[Puppet]]

HALVING = Stopping("loss", "min", patience=1, min_delta=0.45)
"""From a distance of 8 the loss goes 4, 2, 1, 0.5, 0.25: from round 5 on the gain is too small."""


def plan_at(value: float) -> Plan:
    return plan_of().trained(np.full(4, value, np.float32).tobytes())


async def test_the_owners_of_run_and_coordinator_see_each_node_and_nobody_else_does(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(goal=1.0, held_out=6))
    bob = await start_node("bob", Learner(goal=-1.0, held_out=2))
    run = await scientist.start(coordinator, [ann, bob], rounds=2, holdout=0.2)
    result = await run.result()

    lines = (await run.catch_up()).lines()

    assert [sorted(line.by_node) for line in lines] == [["ann", "bob"], ["ann", "bob"]]
    model = numbers(result.plan.initial)
    assert lines[-1].by_node["ann"]["loss"] == pytest.approx(float(np.abs(model - 1).mean()), rel=1e-5)
    assert result.metrics["loss"] == pytest.approx(
        (6 * lines[-1].by_node["ann"]["loss"] + 2 * lines[-1].by_node["bob"]["loss"]) / 8
    )
    stranger = Scientist(scientist.calls._http, Identity.generate())
    for who in (stranger.calls, ann.open.means.calls):
        with pytest.raises(RunNotFound):
            await who.call(
                coordinator.address, RUN_METRICS, query=Since(), peer=coordinator.identity.public, run=run.id
            )


async def test_a_participant_keeps_what_it_measured_itself_for_its_own_owner(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=-1.0))
    run = await scientist.start(coordinator, [ann, bob], rounds=2, holdout=0.2)
    await run.result()
    await ann.quiet()

    told = await ann.open.means.records.part_events(run.id, After())
    mine = [event for event in told.events if event.kind == "evaluated"]

    by_node = [line.by_node["ann"] for line in (await run.catch_up()).lines()]
    assert [(event.data["round"], event.data["examples"]) for event in mine] == [(0, 5), (1, 5), (2, 5)]
    assert [{"loss": event.data["loss"]} for event in mine[1:]] == by_node


async def test_a_run_that_has_learned_enough_ends_in_success_and_keeps_its_best_checkpoint(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(goal=8.0))
    run = await scientist.start(coordinator, [ann], plan_at(0.0), rounds=50, holdout=0.2, stop=HALVING)

    result = await run.result()

    assert [line.round for line in result.history] == [1, 2, 3, 4, 5, 6]
    assert result.reason == "loss was best in round 4 (0.5), 1 rounds ago"
    assert result.best_round == 4
    assert result.best is not None
    np.testing.assert_allclose(numbers(result.best.initial), 7.5)
    np.testing.assert_allclose(numbers(result.plan.initial), 8 - 8 / 2**6)
    info = await run.info()
    assert (info.state, info.round, info.reason) == ("success", 6, result.reason)
    assert (await Story(run).until("run-ended"))["best"] == 4
    kept = [f"checkpoint-{number}.safetensors" for number in (4, 5, 6)]
    assert coordinator.files() == [*kept, "plan.safetensors"]
    with pytest.raises(RunNotFound, match="checkpoint of round 3 is not kept"):
        await run.checkpoint(3)


async def test_the_last_evaluation_decides_on_the_best_round_too(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(goal=8.0))
    run = await scientist.start(coordinator, [ann], plan_at(0.0), rounds=3, holdout=0.2, stop=HALVING)

    result = await run.result()

    assert (result.best_round, result.reason, result.best) == (3, "", result.plan)


async def test_a_rule_that_nothing_can_fulfil_is_refused(scientist: Scientist, coordinator: ANode) -> None:
    plan = plan_of()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"holdout": 0.0}, "held out"),
        ({"stop": Stopping("acuracy")}, "nobody measures acuracy"),
    ]
    for words, why in cases:
        await scientist.hand_in(coordinator, plan)
        task = scientist.task(coordinator, plan, **{"holdout": 0.2, "stop": HALVING, **words})
        with pytest.raises(RunRefused, match=why):
            await scientist.start_task(coordinator, [coordinator], plan, task)


async def test_what_was_measured_before_a_restart_counts(
    scientist: Scientist, tmp_path: Path, start_puppet: StartPuppet
) -> None:
    first = await a_node("coordinator", tmp_path / "c", data=False)
    ann = await start_puppet("ann")
    rule = Stopping("loss", "min", patience=2)
    run = await scientist.start(first, [ann], rounds=50, holdout=0.2, stop=rule)
    await ann.takes_part(run)
    story = Story(run)
    for number, loss in enumerate((9.0, 0.5, 0.7), 1):  # in round 3 it is known how the checkpoint of round 2 did
        await story.until("round-opened", round=number)
        await ann.reports(number, Report("evaluated", 5, {"loss": loss}))
        await ann.updates(number, [float(number)] * 4)
    await story.until("round-opened", round=4)
    await first.stop()

    again = await a_node("coordinator", tmp_path / "c", data=False)
    run._address = again.address
    await Story(run).until("run-resumed", round=4)
    ann.joins(run)
    ann.listens()
    await ann.reports(4, Report("evaluated", 5, {"loss": 0.6}))  # of round 3, the second that is no better
    await ann.updates(4, [4.0] * 4)
    await Story(run).until("evaluating", round=5)
    await ann.reports(5, Report("evaluated", 5, {"loss": 0.8}))

    result = await run.result()
    assert (len(result.history), result.best_round) == (4, 1)
    assert result.reason == "loss was best in round 1 (0.5), 2 rounds ago"
    assert result.best is not None
    np.testing.assert_array_equal(numbers(result.best.initial), [1.0] * 4)
    await again.stop()


async def test_a_run_is_found_again_by_its_id(scientist: Scientist, coordinator: ANode, start_node: StartNode) -> None:
    ann = await start_node("ann", Learner(goal=8.0))
    begun = await scientist.start(coordinator, [ann], plan_at(0.0), rounds=3, holdout=0.2)
    await begun.result()
    grid = scientist.grid(ann)

    (listed,) = await grid.runs(coordinator.address)
    run = await grid.run(begun.id, coordinator.address)

    assert (listed.run, listed.state) == (begun.id, "success")
    assert run.task == begun.task
    assert numbers((await run.result()).plan.initial) == pytest.approx(np.full(4, 7.0))
    assert numbers((await run.checkpoint(2)).initial) == pytest.approx(np.full(4, 6.0))
    with pytest.raises(RunNotFound):
        await Scientist(scientist.calls._http, Identity.generate()).grid().run(begun.id, coordinator.address)
