"""What an owner asks of private runs, and that nobody has more rounds of one than were agreed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from grid.learning.private import Privacy
from grid.learning.questions import Moments
from grid.learning.recipe import Dp
from grid.learning.strategy import FEDAVG
from grid.node.spending import PAID, Payer, spending_of
from grid.privacy.rdp import epsilon_of_steps
from grid.wire.problems import InviteRefused, RunRefused, StrategyRefused
from grid.wire.runs import After
from tests.grid_of_nodes import MASKED, SCIENTIST, ANode, Scientist, coordinator_of, plan_of, quorum

StartNode = Callable[..., Awaitable[ANode]]

DP = Dp(clip=1.0, noise=2.0, rate=0.5)
PRIVATE = plan_of(dp=DP, epochs=3)
STEPS = 6


async def told(node: ANode, run: str, kind: str) -> list[dict[str, float]]:
    return [
        event.data for event in (await node.open.parts.participant.events(run, After())).events if event.kind == kind
    ]


async def test_a_run_that_is_not_private_is_refused_with_the_reason_before_data_is_read(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", dp_required=5.0)

    run = await scientist.start(coordinator, [ann])

    with pytest.raises(RunRefused, match="may only be learned from under differential privacy"):
        await run.result()
    await ann.quiet()
    assert ann.learner.opened == 0


async def test_a_run_that_costs_more_than_is_granted_is_refused_and_one_that_does_not_is_taken(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    cost = epsilon_of_steps(0.5, 2.0, 2 * STEPS, 1e-5)
    ann, eve = await start_node("ann", dp_required=cost + 0.01), await start_node("eve", dp_required=cost - 0.01)

    run = await scientist.start(coordinator, [ann, eve], PRIVATE, rounds=2)
    result = await run.result()

    assert [line.accepted for line in result.history] == [1, 1]
    await ann.quiet()
    assert (ann.learner.opened, eve.learner.opened) == (1, 0)
    reason = (await told(eve, run.id, "failed"))[0]["reason"]
    assert f"2 rounds would cost each record epsilon {cost:.3g} at delta 1e-05" in str(reason)


async def test_an_analysis_is_refused_where_privacy_is_asked_for(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", dp_required=5.0)

    where = coordinator_of(coordinator).address
    run = await scientist.grid(ann).analyse(Moments(("features",)), "#pulse", coordinator=where)

    with pytest.raises(RunRefused, match="and an analysis has none"):
        await run.result()


@pytest.mark.parametrize("strategy", [{}, MASKED])
async def test_each_round_is_paid_for_and_told_with_the_update(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, strategy: dict[str, object]
) -> None:
    nodes = [await start_node(name) for name in ("ann", "bob", "cid")]

    run = await scientist.start(coordinator, nodes, PRIVATE, rounds=2, quorum=quorum(3), strategy=strategy)
    await run.result()
    await nodes[0].quiet()

    paid = await told(nodes[0], run.id, PAID)
    trained = await told(nodes[0], run.id, "trained")
    costs = [epsilon_of_steps(0.5, 2.0, rounds * STEPS, 1e-5) for rounds in (1, 2)]
    assert [entry["record-epsilon"] for entry in paid] == costs
    assert [entry["record-epsilon"] for entry in trained] == costs


async def test_whoever_asks_for_more_rounds_than_were_agreed_gets_none(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann")
    means, who = ann.open.means, Payer(scientist.task(coordinator, PRIVATE, rounds=2), "pulse", SCIENTIST.id)

    spending = await spending_of(means, who, PRIVATE, FEDAVG)
    secrets = {spending.begin()["secret"]}
    await spending.paid(1)
    again = await spending_of(means, who, PRIVATE, FEDAVG)  # as after a restart
    secrets.add(again.begin()["secret"])
    await again.paid(1)

    assert len(secrets) == 2
    with pytest.raises(InviteRefused, match="all 2 rounds"):
        again.begin()
    with pytest.raises(InviteRefused, match="all 2 rounds"):
        (await spending_of(means, who, PRIVATE, FEDAVG)).begin()
    plain = await spending_of(means, Payer(scientist.task(coordinator, plan_of()), *who[1:]), plan_of(), FEDAVG)
    assert (plain.begin(), await plain.paid(1)) == ({}, {})


async def test_a_private_run_that_holds_examples_out_is_refused(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann")

    run = await scientist.start(coordinator, [ann], PRIVATE, holdout=0.2)

    with pytest.raises(RunRefused, match="holds no examples out"):
        await run.result()


async def test_the_client_makes_a_plan_private_and_measures_nothing(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", dp_required=3.0)
    grid, where = scientist.grid(ann), coordinator_of(coordinator).address

    run = await grid.train(plan_of(), "#pulse", dp=Privacy(3.0, rate=0.5), rounds=2, coordinator=where)
    result = await run.result()

    assert result.plan.recipe.dp is not None
    assert result.plan.recipe.dp.epsilon(2 * result.plan.recipe.private_steps) <= 3.0
    assert [line.metrics for line in result.history] == [{}, {}]
    with pytest.raises(StrategyRefused, match="not measured"):
        await grid.train(plan_of(), "#pulse", dp=DP, stop_on="loss", coordinator=where)
