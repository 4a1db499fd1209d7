"""Nodes without ports in a network without gateways: reached by letters that wait at nodes which agreed to relay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from grid.cli.connect import aconnect
from grid.client.bundles import hand_in_plan
from grid.client.calls import Calls
from grid.client.grid import Grid
from grid.client.payload import once
from grid.client.projects import AsyncProject
from grid.protocol.documents import read_document
from grid.wire import projects as wire
from grid.wire.node import STATUS
from grid.wire.problems import EnvelopeRefused, NotFound, QuotaSpent, Unreachable
from grid.wire.relay import POST_LETTER, mailbox_address, mailbox_at
from tests.dht.peers import ME, Peers, peer_of
from tests.grid_of_nodes import ANode, Learner, coordinator_of, numbers, plan_of, pool
from tests.node.test_projects import a_task

ROOM = 64 * 1024**2

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def peers(tmp_path: Path) -> AsyncIterator[Peers]:
    peers = Peers(tmp_path)
    yield peers
    await peers.end()


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that the network is about to do."""
    async with asyncio.timeout(30):
        while not await true():
            await asyncio.to_thread(lambda: None)


async def test_a_node_without_a_port_is_found_and_reached_through_a_node_that_relays(peers: Peers) -> None:
    first = await peers.start("first", data=False)
    relay = await peers.start("relay", data=False, relay_room=ROOM)
    ward = await peers.start("ward", listen=False)

    assert ward.address == mailbox_address(relay.address, ward.identity.id)
    async with aconnect(f"dht+{first.address}", identity=ME) as grid:

        async def found() -> bool:
            return [node.id for node in await grid.search("#pulse")] == ["ward"]

        await until(found)
        said = await grid._calls.call(ward.address, STATUS, peer=ward.identity.public)
    assert said.node_id == "ward"
    assert not peer_of(ward).answers.said.listens  # type: ignore[union-attr]
    known = {contact.address for each in (first, relay) for contact in peer_of(each).table}
    assert known <= {first.address, relay.address}


async def test_when_its_relay_dies_a_node_takes_another_and_is_reached_under_its_old_address_too(peers: Peers) -> None:
    first = await peers.start("first", data=False)
    relays = [await peers.start(name, data=False, relay_room=ROOM) for name in ("one", "two")]
    ward = await peers.start("ward", listen=False)
    (gone,) = [each for each in relays if mailbox_at(ward.address) == (each.address, ward.identity.id)]
    async with aconnect(f"dht+{first.address}", identity=ME) as grid:
        assert (await grid._calls.call(ward.address, STATUS, peer=ward.identity.public)).node_id == "ward"
        await peers.kill(gone.id)

        async def moved() -> bool:
            (member,) = await grid.search("#pulse")
            return member.address == mailbox_address(other.address, ward.identity.id)

        (other,) = [each for each in relays if each is not gone]
        await until(moved)
        assert (await grid._calls.call(ward.address, STATUS, peer=ward.identity.public)).node_id == "ward"


async def test_a_node_that_relays_has_the_quotas_of_a_gateway_and_one_that_did_not_agree_relays_nothing(
    peers: Peers,
) -> None:
    plain = await peers.start("plain", data=False)
    relay = await peers.start("relay", data=False, relay_room=100_000)
    ward = await peers.start("ward", listen=False)
    async with pool() as http:
        calls, letter = Calls(http, identity=ME), {"mailbox": ward.identity.id, "letter": "a" * 64}
        with pytest.raises(QuotaSpent):
            await calls.upload(relay.address, POST_LETTER, once(bytes(60_000)), length=60_000, **letter)
        with pytest.raises(EnvelopeRefused):
            await calls.upload(relay.address, POST_LETTER, once(bytes(1_000)), length=1_000, **letter)
        with pytest.raises(NotFound):
            await calls.upload(plain.address, POST_LETTER, once(bytes(1_000)), length=1_000, **letter)
        assert relay.open.reach.mailboxes is not None
        assert relay.open.reach.mailboxes.waiting == 0


async def test_two_sites_without_ports_run_a_project_without_any_gateway(peers: Peers) -> None:
    relay = await peers.start("relay", data=False, relay_room=ROOM)
    async with aconnect(f"dht+{relay.address}", identity=ME) as grid:
        project = await under_way(peers, grid, Learner(goal=8.0), Learner(goal=8.0))
        assert [event.kind async for event in project.watch()][-1] == "batch-ended"
        last = await project.run()
        learned = numbers((await last.checkpoint()).initial)

    np.testing.assert_allclose(learned, (numbers(plan_of().initial) + 3 * 8.0) / 4)


@pytest.mark.slow
async def test_a_project_goes_on_when_the_relay_of_its_coordinator_and_its_sites_dies(peers: Peers) -> None:
    first = await peers.start("first", data=False)
    relay = await peers.start("relay", data=False, relay_room=ROOM)
    held = Learner(goal=8.0)
    held.may_go_on.clear()
    async with aconnect(f"dht+{first.address}", identity=ME) as grid:
        project = await under_way(peers, grid, held, Learner(goal=8.0))
        await held.began.wait()
        await peers.start("spare", data=False, relay_room=ROOM)
        await peers.kill(relay.id)
        held.may_go_on.set()

        async def over() -> bool:
            try:
                return (await project.info()).batches[-1].state in {"success", "failed"}
            except Unreachable:
                return False

        await until(over)
        last = await project.run()
        learned = numbers((await last.checkpoint()).initial)

    np.testing.assert_allclose(learned, (numbers(plan_of().initial) + 3 * 8.0) / 4)


async def test_a_scientist_without_a_port_trains_at_nodes_without_ports(peers: Peers) -> None:
    first = await peers.start("first", data=False)
    await peers.start("relay", data=False, relay_room=ROOM)
    for at in range(2):
        await peers.start(f"site-{at}", Learner(goal=8.0), listen=False)
    async with aconnect(f"dht+{first.address}", identity=ME, listen=False) as grid:

        async def found() -> bool:
            return len(await grid.search("#pulse")) == 2

        await until(found)
        run = await grid.train(plan_of(), "#pulse", rounds=2, holdout=0.0, upload="exact")
        learned = numbers((await run.result()).plan.initial)

    np.testing.assert_allclose(learned, (numbers(plan_of().initial) + 3 * 8.0) / 4, rtol=1e-6)


async def under_way(peers: Peers, grid: Grid, *learners: Learner) -> AsyncProject:
    """A project of two tasks that was begun, of a coordinator and sites none of which has a port."""
    lead, plan = await peers.start("lead", data=False, listen=False), plan_of()
    key, told = lead.identity.id, lead.identity.public
    sites = [
        await peers.start(f"site-{at}", learner, trust=(key,), listen=False) for at, learner in enumerate(learners)
    ]

    async def asks(node: ANode, endpoint: Any, message: Any = None, **words: Any) -> Any:
        return await grid._calls.call(node.address, endpoint, message, peer=node.identity.public, **words)

    await hand_in_plan(grid._calls, ME, lead.address, told, plan, time.time())
    tasks = tuple(a_task(plan, name, quorum={"minimum": 2}) for name in ("train", "more"))
    members = tuple(each.identity.id for each in sites)
    info = await asks(lead, wire.CREATE_PROJECT, wire.CreateProject("survival", tasks, members=members))
    project = read_document(info.project, wire.Project, wire.PROJECT).project
    for each in sites:
        await asks(each, wire.JOIN_PROJECT, wire.JoinProject(project, lead.address, key))
    await asks(lead, wire.START_PROJECT, project=project)
    begun = await asks(lead, wire.PROJECT_INFO, project=project)
    return AsyncProject(grid._calls, ME, coordinator_of(lead), begun, time.time)
