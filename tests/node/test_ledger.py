"""Budgets over HTTP: runs reserve before data is read, pay as they go, and give back what they did not use."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
from aiohttp import ClientSession

from grid.crypto.identity import Identity
from grid.learning.strategy import PRESETS, noised
from grid.node import summing
from grid.node.ledger import Ledger
from grid.node.spending import AGAIN
from grid.privacy.rdp import epsilon_of_steps
from grid.wire import accounts
from grid.wire.budgets import (
    BUDGETS,
    DROP_BUDGET,
    SET_BUDGET,
    BudgetInfo,
    DropBudget,
    SetBudget,
)
from grid.wire.problems import NotAllowed, NotFound, RunRefused
from tests.grid_of_nodes import SCIENTIST, ANode, Learner, Scientist, Story, a_node, quorum

StartNode = Callable[..., Awaitable[ANode]]

OWNER = Identity.from_seed(b"o" * 32)
NOISY = msgspec.to_builtins(noised(PRESETS["fedavg"], 1.0, 8.0, 3))


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for longer than a test takes."""
    monkeypatch.setattr(summing, "STEP", 1.0)
    monkeypatch.setattr(summing, "SOON", 0.1)


async def three(start_node: StartNode, epsilon: float = 3.0) -> list[ANode]:
    """Nodes, the first of which has a budget."""
    nodes = [await start_node(name, Learner(), owners=(OWNER.id,)) for name in ("ann", "bob", "cid")]
    await nodes[0].open.means.ledger.set(SetBudget("pulse", epsilon))
    return nodes


async def settled_of(ledger: Ledger) -> BudgetInfo:
    """What the only budget says once no run has reserved of it any more."""
    async with asyncio.timeout(10):
        while (told := await ledger.told())[0].reserved:
            await asyncio.to_thread(lambda: None)
    return told[0]


async def test_a_run_spends_what_its_rounds_cost_and_gives_the_rest_back(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node)
    ledger = nodes[0].open.means.ledger
    run = await scientist.start(coordinator, nodes, rounds=12, quorum=quorum(3), strategy=NOISY)
    await Story(run).until("round-closed", round=1)
    (going_on,) = await ledger.told()

    await run.stop()
    with pytest.raises(RunRefused, match="stopped"):
        await run.result()
    settled = await settled_of(ledger)

    assert (going_on.runs, going_on.reserved) == (1, 1)
    assert going_on.spent == pytest.approx(epsilon_of_steps(1.0, 8.0, 12 + AGAIN, 1e-5))
    assert (settled.runs, settled.reserved) == (1, 0)
    assert epsilon_of_steps(1.0, 8.0, 1, 1e-5) <= settled.spent < going_on.spent
    assert settled.left == pytest.approx(3.0 - settled.spent)


async def test_a_run_that_does_not_fit_is_refused_before_its_plan_meets_data(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node, epsilon=1.0)

    run = await scientist.start(coordinator, nodes, rounds=12, quorum=quorum(3), strategy=NOISY)
    with pytest.raises(RunRefused, match="the budget of all who ask on pulse is epsilon 1"):
        await run.result()

    assert nodes[0].learner.opened == 0
    assert (await nodes[0].open.means.ledger.told())[0].spent == 0


async def test_a_run_pays_its_own_price_also_in_the_name_of_a_cheaper_one(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node)
    cheap = msgspec.to_builtins(noised(PRESETS["fedavg"], 1.0, 1000.0, 3))
    run = await scientist.start(coordinator, nodes, rounds=12, quorum=quorum(3), strategy=cheap)
    await Story(run).until("round-closed", round=1)
    await run.stop()
    opened, before = nodes[0].learner.opened, await settled_of(nodes[0].open.means.ledger)
    for node in nodes:
        await node.quiet()

    words = {"run": run.id, "rounds": 12, "quorum": quorum(3)}
    dear = msgspec.to_builtins(noised(PRESETS["fedavg"], 1.0, 0.5, 3))
    again = await scientist.start(await start_node("dan"), nodes, strategy=dear, **words)
    with pytest.raises(RunRefused, match="another account, noise or number of rounds was here before"):
        await again.result()

    assert nodes[0].learner.opened == opened
    assert await settled_of(nodes[0].open.means.ledger) == before


async def test_a_dataset_with_a_budget_is_learned_from_under_noise_alone(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node)

    run = await scientist.start(coordinator, nodes[:1])
    with pytest.raises(RunRefused, match="under differential privacy alone"):
        await run.result()
    assert nodes[0].learner.opened == 0


async def test_a_crash_keeps_what_was_reserved(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, tmp_path: Path
) -> None:
    nodes = [await start_node(name) for name in ("bob", "cid")]
    ann = await a_node("ann", tmp_path / "ann", Learner())
    await ann.open.means.ledger.set(SetBudget("pulse", 3.0))
    ann.learner.may_go_on.clear()
    await scientist.start(coordinator, [ann, *nodes], rounds=12, quorum=quorum(3), strategy=NOISY)
    await ann.learner.began.wait()
    await ann.stop()

    again = await a_node("ann", tmp_path / "ann", Learner(), trust=())  # its owner trusts nobody any more: it ends here
    again_told = await again.open.means.ledger.told()
    await again.stop()

    assert again_told[0].runs == 1


async def test_only_the_owner_sets_and_reads_budgets(start_node: StartNode, connections: ClientSession) -> None:
    ann = await start_node("ann", owners=(OWNER.id,))
    owner, stranger = Scientist(connections, OWNER).calls, Scientist(connections).calls

    await owner.call(ann.address, SET_BUDGET, SetBudget("pulse", 2.0, subject="students"), sign=True)
    new = accounts.NewAccount("sue", keys=(SCIENTIST.id,), role="User")
    await owner.call(ann.address, accounts.ADD_GROUP, accounts.NewGroup("students"), sign=True)
    await owner.call(ann.address, accounts.ADD_ACCOUNT, new, sign=True)
    await owner.call(ann.address, accounts.JOIN_GROUP, sign=True, name="students", account="sue")
    (told,) = (await owner.call(ann.address, BUDGETS, sign=True)).budgets
    assert (told.subject, told.epsilon, told.left) == ("students", 2.0, 2.0)
    assert set(told.members) == {"sue", SCIENTIST.id}
    with pytest.raises(NotAllowed):
        await stranger.call(ann.address, BUDGETS, sign=True)
    with pytest.raises(NotAllowed):
        await stranger.call(ann.address, SET_BUDGET, SetBudget("pulse", 9.0), sign=True)

    await owner.call(ann.address, DROP_BUDGET, DropBudget("pulse", "students"), sign=True)
    with pytest.raises(NotFound):
        await owner.call(ann.address, DROP_BUDGET, DropBudget("pulse", "students"), sign=True)
