"""The twelve probes that an outsider passed at FriendlyFL's routing server, made at ours: each is refused.

Numbers are those of the probes. Number 5 is a change of state that was documented and ended as a server error.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish
from grid.gateway.register import Register
from grid.protocol.documents import sign_document
from grid.wire.directory import NODE_RECORD, Join, Leave, NodeRecord, Renew
from grid.wire.node import DISTRUST, TRUST, TRUSTED, Trust
from grid.wire.problems import InviteRefused, NotAllowed, NotAMember, NotInvited, RunNotFound
from grid.wire.runs import (
    CHECKPOINT,
    INVITE,
    MODEL,
    RUN,
    RUN_EVENTS,
    RUN_TASK,
    RUNS,
    STOP_RUN,
    After,
    Fetch,
    FetchCheckpoint,
    Invite,
)
from tests.conftest import StartNode
from tests.gateway.conftest import gateway_at
from tests.gateway.fakes import Clock, Key, MemoryStore, open_world
from tests.grid_of_nodes import ANode, Scientist, plan_of

HOSPITAL, OUTSIDER = Identity.from_seed(b"h" * 32), Identity.from_seed(b"o" * 32)
ADDRESS = "http://127.0.0.1:1"


@pytest.fixture
def outsider(connections: ClientSession) -> Calls:
    """Somebody with a key of their own, and no rights anywhere."""
    return Calls(connections, identity=OUTSIDER)


def hospital() -> Join:
    now = time.time()
    record = NodeRecord("hospital", ADDRESS, int(now * 1000), now + 60, ("#pulse",), (), HOSPITAL.id)
    return Join("hospital", ADDRESS, sign_document(HOSPITAL, NODE_RECORD, record))


async def test_an_outsider_lists_and_changes_no_runs(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, outsider: Calls
) -> None:
    """Probes 2, 3 and 4: list active runs, move a hospital's run, end the coordinator's."""
    run = await scientist.grid(await start_node("ann")).train(plan_of(), "#pulse", coordinator=coordinator.address)
    await run.result()
    name, at = run.task.run, coordinator.address

    assert (await outsider.call(at, RUNS)).runs == ()
    with pytest.raises(RunNotFound):
        await outsider.call(at, RUN, run=name)
    with pytest.raises(RunNotFound):
        await outsider.call(at, STOP_RUN, run=name)
    with pytest.raises(RunNotFound):
        await outsider.call(at, RUN_EVENTS, query=After(0), run=name)
    assert (await run.info()).state == "success"


async def test_a_model_goes_to_those_of_its_run_alone(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, outsider: Calls
) -> None:
    """Probes 6 and 7: a model of one project is delivered to another, and what was uploaded to whoever asks."""
    run = await scientist.grid(await start_node("ann")).train(plan_of(), "#pulse", coordinator=coordinator.address)
    await run.result()
    now = time.time()
    mine = publish(OUTSIDER, Prekey.generate(), now, now + 60)

    with pytest.raises((NotInvited, RunNotFound)):
        async with outsider.download(coordinator.address, MODEL, Fetch(mine), run=run.task.run, round=1) as (_, blocks):
            await anext(blocks)
    checkpoint = FetchCheckpoint(mine)
    with pytest.raises(RunNotFound):
        async with outsider.download(coordinator.address, CHECKPOINT, checkpoint, run=run.task.run) as (_, blocks):
            await anext(blocks)


async def test_a_run_that_is_over_is_not_ended_again_and_nothing_breaks(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    """Probe 5: a change of state that is out of turn is answered, and not by a server error."""
    run = await scientist.grid(await start_node("ann")).train(plan_of(), "#pulse", coordinator=coordinator.address)
    await run.result()

    assert (await scientist.calls.call(coordinator.address, STOP_RUN, run=run.task.run)).state == "success"


async def test_nobody_makes_himself_the_coordinator_of_anothers_task(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, outsider: Calls
) -> None:
    """Probe 1: an outsider posts itself as second coordinator."""
    ann = await start_node("ann")
    run = await scientist.grid(ann).train(plan_of(), "#pulse", coordinator=coordinator.address)
    await run.result()
    task = await scientist.calls.call(coordinator.address, RUN_TASK, run=run.task.run)
    now = time.time()
    invite = Invite(task, "http://127.0.0.1:1", publish(OUTSIDER, Prekey.generate(), now, now + 60))

    with pytest.raises(InviteRefused, match="another coordinator"):
        await outsider.call(ann.address, INVITE, invite)


async def test_an_outsider_neither_disconnects_nor_deletes_a_site(
    tmp_path: Path, connections: ClientSession, outsider: Calls
) -> None:
    """Probes 8 and 9: mark a hospital as disconnected, delete the coordinator's site."""
    async with gateway_at(tmp_path, clock=time.time) as address:  # type: ignore[arg-type]
        mine, theirs = (GatewayDirectory(calls, address) for calls in (Calls(connections, identity=HOSPITAL), outsider))
        await mine.join(hospital())

        with pytest.raises(NotAMember):
            await theirs.renew(Renew("hospital", busy=True))
        with pytest.raises(NotAllowed):
            await theirs.leave(Leave("hospital", ADDRESS))
        assert (await theirs.resolve("hospital")).state != "offline"


async def test_an_outsider_neither_lists_nor_deletes_those_who_are_trusted(
    coordinator: ANode, scientist: Scientist, outsider: Calls
) -> None:
    """Probes 10 and 11: any user lists and deletes users."""
    with pytest.raises(NotAllowed):
        await outsider.call(coordinator.address, TRUSTED)
    with pytest.raises(NotAllowed):
        await outsider.call(coordinator.address, TRUST, Trust(OUTSIDER.id))
    with pytest.raises(NotAllowed):
        await outsider.call(coordinator.address, DISTRUST, public_key=scientist.identity.id)

    coordinator.open.means.access.may_train(scientist.identity.id)


async def test_a_site_that_is_silent_for_more_than_a_day_is_not_connected() -> None:
    """Probe 12: silent for a day and 30 seconds, which its server took for 30 seconds."""
    clock = Clock()
    register = Register(MemoryStore(), open_world, clock)
    await register.join(Key(1).join("hospital"))

    for _ in range(3):  # as often as time is looked at
        clock.passes(24 * 3600 / 3 + 10)
        register.lapse()

    listed = register.roll.get("hospital")
    assert listed is None or not listed.found
