"""Nodes that nobody can connect to: all they do goes through their mailboxes at a real gateway."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientSession

from grid.client.writing import open_relay
from grid.crypto.identity import Identity
from grid.node import summing
from grid.wire.node import DATASETS, STATUS, TRUSTED
from grid.wire.problems import BadSignature, NotAllowed, Unreachable
from grid.wire.relay import mailbox_at
from tests.gateway.conftest import gateway_at
from tests.grid_of_nodes import MASKED, ANode, Learner, Scientist, Story, a_node, numbers, plan_of, quorum

StartNode = Callable[..., Awaitable[ANode]]
WIDE = plan_of(400_000)


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[str]:
    async with gateway_at(tmp_path / "gateway", clock=time.time) as address:  # type: ignore[arg-type]
        yield address


@pytest.fixture
async def start_hidden(start_node: StartNode, gateway: str) -> StartNode:
    """What starts nodes without a port."""

    async def start(name: str, learner: Learner | None = None, **settings: object) -> ANode:
        return await start_node(name, learner, listen=False, gateways=(gateway,), **settings)

    return start


@pytest.fixture
async def far(connections: ClientSession) -> AsyncIterator[Scientist]:
    """A scientist who writes letters."""
    scientist = Scientist(connections)
    async with open_relay(scientist.calls, scientist.identity, time.time):
        yield scientist


async def test_a_node_without_a_port_answers_calls_in_letters(start_hidden: StartNode, far: Scientist) -> None:
    ann = await start_hidden("ann")
    box = mailbox_at(ann.address)
    assert box is not None

    status = await far.calls.call(ann.address, STATUS)
    described = await far.calls.call(ann.address, DATASETS, peer=ann.identity.public)

    assert status.node_id == "ann"
    assert [dataset.name for dataset in described.datasets] == ["pulse"]


async def test_its_refusals_are_those_of_any_node(start_hidden: StartNode, far: Scientist) -> None:
    ann = await start_hidden("ann")

    with pytest.raises(NotAllowed, match="whose role lets them edit settings"):
        await far.calls.call(ann.address, TRUSTED)
    with pytest.raises(BadSignature, match="another key"):
        await far.calls.call(ann.address, DATASETS, peer=Identity.generate().public)


async def test_its_owner_is_known_by_the_key_that_signs_the_letter(start_hidden: StartNode, far: Scientist) -> None:
    ann = await start_hidden("ann", owners=(far.identity.id,))

    trusted = await far.calls.call(ann.address, TRUSTED)

    assert [who.public_key for who in trusted.trusted] == [far.identity.id]


async def test_a_run_of_nodes_without_ports_learns_what_it_should(start_hidden: StartNode, far: Scientist) -> None:
    carol = await start_hidden("carol", data=False)
    ann, bob, dan = [await start_hidden(name, Learner(goal=8.0)) for name in ("ann", "bob", "dan")]

    plan = plan_of()
    run = await far.start(carol, [ann, bob, dan], plan, rounds=2, holdout=0.2)
    result = await run.result()

    assert [(line.round, line.accepted) for line in result.history] == [(1, 3), (2, 3)]
    np.testing.assert_allclose(numbers(result.plan.initial), numbers(plan.initial) / 4 + 6.0, rtol=1e-6)
    assert "loss" in result.metrics
    assert all(await asyncio.gather(*map(_quiet, (carol, ann, bob, dan))))


async def test_a_secure_sum_of_nodes_without_ports_goes_on_though_one_of_them_is_restarted_in_the_middle(
    start_hidden: StartNode, far: Scientist, gateway: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summing, "STEP", 3.0)
    carol, plan = await start_hidden("carol", data=False), plan_of()
    ann, bob = [await start_hidden(name, Learner(goal=float(at))) for at, name in enumerate(("ann", "bob"))]
    dan = await a_node("dan", tmp_path / "dan", Learner(goal=2.0), listen=False, gateways=(gateway,))
    dan.learner.may_go_on.clear()
    run = await far.start(carol, [ann, bob, dan], plan, rounds=2, quorum=quorum(3), strategy=MASKED)
    await Story(run).until("update", round=1, node="ann")
    await dan.learner.began.wait()
    await dan.stop()

    await start_hidden("dan", Learner(goal=2.0))
    result = await run.result()

    model = numbers(plan.initial)
    for _ in range(2):
        model = np.mean([(model + at) / 2 for at in range(3)], axis=0).astype(np.float32)
    np.testing.assert_allclose(numbers(result.plan.initial), model, atol=1e-5)
    assert [line.accepted for line in result.history] == [3, 3]


async def test_large_models_and_updates_travel_in_letters_too(start_hidden: StartNode, far: Scientist) -> None:
    carol = await start_hidden("carol", data=False)
    ann = await start_hidden("ann", Learner(goal=4.0))

    run = await far.start(carol, [ann], WIDE)
    result = await run.result()

    np.testing.assert_allclose(numbers(result.plan.initial), numbers(WIDE.initial) / 2 + 2.0, rtol=1e-6)


async def test_without_anybody_who_writes_letters_it_cannot_be_reached(
    start_hidden: StartNode, scientist: Scientist
) -> None:
    ann = await start_hidden("ann")
    with pytest.raises(Unreachable, match="alone"):
        await scientist.calls.call(ann.address, STATUS)


async def test_a_mailbox_that_nobody_reads_cannot_be_reached(gateway: str, far: Scientist) -> None:
    with pytest.raises(Unreachable, match="nobody reads"):
        await far.calls.call(f"{gateway}/v1/mailboxes/{Identity.generate().id}", STATUS)


async def test_nodes_behind_a_wall_take_part_by_letters_although_they_think_they_can_be_reached(
    start_node: StartNode, gateway: str, scientist: Scientist
) -> None:
    nowhere = "http://127.0.0.1:9"
    carol = await start_node("carol", data=False, gateways=(gateway,), address=nowhere)
    ann = await start_node("ann", Learner(goal=8.0), gateways=(gateway,), address=nowhere)
    for node in (carol, ann):
        await node.open.readable()
    plan = plan_of()
    async with open_relay(scientist.calls, scientist.identity, time.time) as relay:
        relay.gateways = (gateway,)
        run = await scientist.start(carol, [ann], plan)
        result = await run.result()

    assert [line.accepted for line in result.history] == [1]
    np.testing.assert_allclose(numbers(result.plan.initial), numbers(plan.initial) / 2 + 4.0, rtol=1e-6)


async def _quiet(node: ANode) -> bool:
    await node.quiet()
    return True
