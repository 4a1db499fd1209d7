"""What scientists ask of a coordinator, over HTTP."""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import ClientSession
from msgspec.structs import replace

from grid.client.calls import Calls
from grid.client.payload import once, read_prekey
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish
from grid.crypto.sealing import seal_bytes
from grid.crypto.session import EMPTY_BODY, sign_request
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.protocol.documents import sign_document
from grid.wire.node import PREKEY
from grid.wire.problems import (
    BadRequest,
    BadSignature,
    EnvelopeRefused,
    Full,
    GridError,
    NotAllowed,
    NotAuthenticated,
    PlanRefused,
    Replayed,
    RunNotFound,
    RunRefused,
    UpdateRepeated,
)
from grid.wire.runs import (
    CHECKPOINT,
    PUT_BUNDLE,
    RUN,
    RUN_EVENTS,
    RUNS,
    START_RUN,
    STOP_RUN,
    TASK,
    UPDATE,
    After,
    Event,
    Fetch,
    Report,
    StartRun,
)
from tests.cutting import a_line
from tests.grid_of_nodes import ANode, Learner, Puppet, Scientist, Story, a_node, plan_of, quorum

StartNode = Callable[..., Awaitable[ANode]]
StartPuppet = Callable[..., Awaitable[Puppet]]

STRANGER = Identity.from_seed(b"stranger".ljust(32))


async def put(
    scientist: Scientist, node: ANode, payload: bytes, digest: str, spoil: bytes = b"", **changed: Any
) -> None:
    """Hand in bytes as a bundle of this digest."""
    now, me, you = time.time(), scientist.identity, node.identity.public
    published = await scientist.calls.call(node.address, PREKEY)
    usual = {"sender": me.public, "audience": you, "kind": "bundle", "created": int(now), "expires": int(now + 60)}
    sealed = seal_bytes(me, Header(**(usual | changed)), payload, [read_prekey(published.prekey, you, now)]) + spoil
    await scientist.calls.upload(node.address, PUT_BUNDLE, once(sealed), length=len(sealed), peer=you, digest=digest)


# --- bundles --------------------------------------------------------------------------------------


async def test_a_bundle_that_is_not_what_its_digest_says_is_refused(scientist: Scientist, coordinator: ANode) -> None:
    with pytest.raises(PlanRefused, match="digest names"):
        await put(scientist, coordinator, plan_of().bundle(), "0" * 64)

    assert coordinator.files() == []


async def test_a_bundle_that_was_not_sealed_to_this_node_by_its_caller_is_refused(
    scientist: Scientist, coordinator: ANode
) -> None:
    bundle, digest = plan_of().bundle(), plan_of().digest

    with pytest.raises(EnvelopeRefused):
        await put(scientist, coordinator, bundle, digest, spoil=b"!")
    with pytest.raises(EnvelopeRefused):
        await put(scientist, coordinator, bundle, digest, kind="update")
    with pytest.raises(EnvelopeRefused):
        await put(scientist, coordinator, bundle, digest, audience=b"")

    assert coordinator.files() == []


async def test_nobody_hands_in_bundles_or_starts_runs_unless_trusted(
    coordinator: ANode, connections: ClientSession, start_puppet: StartPuppet
) -> None:
    stranger = Scientist(connections, STRANGER)

    with pytest.raises(NotAllowed, match=f"grid-node peer trust {STRANGER.id}"):
        await stranger.hand_in(coordinator, plan_of())
    with pytest.raises(NotAllowed):
        await stranger.start_task(
            coordinator, [await start_puppet("ann")], plan_of(), stranger.task(coordinator, plan_of())
        )
    with pytest.raises(NotAuthenticated):
        await Calls(connections).call(coordinator.address, RUNS)

    assert coordinator.files() == []


async def test_a_bundle_that_is_no_plan_starts_no_run(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    layout = Layout([TensorSpec("w", "F32", (2,))])
    payload = header_bytes(layout) + bytes(layout.size)
    digest = hashlib.sha256(payload).hexdigest()
    await put(scientist, coordinator, payload, digest)
    task = replace(scientist.task(coordinator, plan_of()), plan=digest)

    with pytest.raises(PlanRefused):
        await scientist.start_task(coordinator, [await start_puppet("ann")], plan_of(), task)

    assert (await scientist.calls.call(coordinator.address, RUNS)).runs == ()


# --- tasks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "error", "why"),
    [
        ({"coordinator": STRANGER.id}, RunRefused, "another coordinator"),
        ({"expires": 1.0}, Replayed, "expired"),
        ({"quorum": quorum(2)}, RunRefused, "1 peers cannot make a quorum of 2"),
        ({"plan": "0" * 64}, RunRefused, "not handed in"),
        ({"rounds": 0}, BadRequest, "Task"),
        ({"run": "../../escape"}, BadRequest, "Task"),
    ],
)
async def test_a_task_that_cannot_be_is_refused_with_the_reason(
    scientist: Scientist,
    coordinator: ANode,
    start_puppet: StartPuppet,
    changes: dict[str, Any],
    error: type[GridError],
    why: str,
) -> None:
    plan, ann = plan_of(), await start_puppet("ann")
    await scientist.hand_in(coordinator, plan)
    task = replace(scientist.task(coordinator, plan), **changes)

    with pytest.raises(error, match=why):
        await scientist.start_task(coordinator, [ann], plan, task)

    assert (await scientist.calls.call(coordinator.address, RUNS)).runs == ()


async def test_a_task_signed_by_another_than_the_caller_is_refused(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, task = await start_puppet("ann"), scientist.task(coordinator, plan_of())
    await scientist.hand_in(coordinator, plan_of())
    signed = sign_document(STRANGER, TASK, task)

    with pytest.raises(BadSignature):
        await scientist.calls.call(coordinator.address, START_RUN, StartRun(signed, (ann.peer,)))
    stolen = replace(signed, signer=scientist.identity.id)
    with pytest.raises(BadSignature):
        await scientist.calls.call(coordinator.address, START_RUN, StartRun(stolen, (ann.peer,)))


async def test_a_peer_named_twice_is_one_too_many(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann = await start_puppet("ann")

    with pytest.raises(RunRefused, match="twice"):
        await scientist.start(coordinator, [ann, ann])


async def test_a_run_id_is_used_once(scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet) -> None:
    plan, ann = plan_of(), await start_puppet("ann")
    await scientist.hand_in(coordinator, plan)
    task = scientist.task(coordinator, plan)

    starts = (scientist.start_task(coordinator, [ann], plan, task) for _ in range(3))
    outcomes = await asyncio.gather(*starts, return_exceptions=True)

    assert sorted(isinstance(outcome, RunRefused) for outcome in outcomes) == [False, True, True]
    (info,) = (await scientist.calls.call(coordinator.address, RUNS)).runs
    assert info.run == task.run


async def test_a_coordinator_takes_so_many_runs_and_no_more(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann = await start_puppet("ann")
    coordinator.open.parts.coordinator._most = 1
    await scientist.start(coordinator, [ann])

    with pytest.raises(Full) as full:
        await scientist.start(coordinator, [ann])

    assert full.value.retry_after == 60.0


async def test_two_runs_of_one_plan_share_nothing_that_the_first_takes_with_it(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, plan = await start_node("ann"), plan_of()

    runs = [await scientist.start(coordinator, [ann], plan) for _ in range(3)]
    await asyncio.gather(*(run.result() for run in runs))
    await (await scientist.start(coordinator, [ann], plan)).result()
    await coordinator.quiet()

    assert set(coordinator.files()) <= {f"{name}.safetensors" for name in ("checkpoint-0", "checkpoint-1", "plan")}


# --- whose runs -------------------------------------------------------------------------------------


async def test_a_run_belongs_to_whoever_started_it(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, connections: ClientSession
) -> None:
    run = await scientist.start(coordinator, [await start_node("ann")])
    await run.result()
    calls, now = Calls(connections, identity=STRANGER), time.time()
    await coordinator.open.means.access.trust(STRANGER.id)  # may train, and still sees nobody else's runs
    fetch = Fetch(publish(STRANGER, Prekey.generate(), now, now + 60))

    for endpoint, words in ((RUN, {}), (STOP_RUN, {}), (RUN_EVENTS, {"query": After()})):
        with pytest.raises(RunNotFound):
            await calls.call(coordinator.address, endpoint, run=run.id, **words)
    with pytest.raises(RunNotFound):
        async with calls.download(coordinator.address, CHECKPOINT, fetch, run=run.id):
            pass

    assert (await calls.call(coordinator.address, RUNS)).runs == ()
    assert [info.state for info in (await scientist.calls.call(coordinator.address, RUNS)).runs] == ["success"]


async def test_a_checkpoint_is_sealed_to_the_prekey_of_its_owner_and_to_no_other(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    run = await scientist.start(coordinator, [await start_node("ann")])
    await run.result()
    now = time.time()
    anothers = Fetch(publish(STRANGER, Prekey.generate(), now, now + 60))

    with pytest.raises(BadSignature):
        async with scientist.calls.download(coordinator.address, CHECKPOINT, anothers, run=run.id):
            pass


def heard_by(identity: Identity, node: ANode, run: str) -> dict[str, Any]:
    """How somebody asks for the events of a run as a stream."""
    path = RUN_EVENTS.target(run=run)
    nonce = secrets.token_bytes(16)
    proof = sign_request(identity, node.identity.public, "GET", path, EMPTY_BODY, time.time(), nonce)
    return {"url": node.address + path, "headers": {"Authorization": proof, "Accept": "text/event-stream"}}


async def test_the_events_of_a_run_are_heard_as_a_stream_by_whoever_may(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, connections: ClientSession
) -> None:
    run = await scientist.start(coordinator, [await start_node("ann")])
    async with connections.get(**heard_by(scientist.identity, coordinator, run.id)) as response:
        heard = await response.text()
    async with connections.ws_connect(**heard_by(scientist.identity, coordinator, run.id)) as socket:
        told = [msgspec.json.decode(message.data, type=Event) async for message in socket]
    async with connections.get(**heard_by(STRANGER, coordinator, run.id)) as refused:
        assert refused.status == 404

    assert [event async for event in run.watch()] == told
    assert [event.kind for event in told] == re.findall("^event: (.*)$", heard, re.MULTILINE)
    assert told[-1].kind == "run-ended"


async def test_an_open_stream_is_the_pulse_of_a_participant(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet, connections: ClientSession
) -> None:
    ann = await start_puppet("ann")
    run = await scientist.start(coordinator, [ann])
    ann.joins(run)
    await ann.invite
    async with connections.get(**heard_by(ann.identity, coordinator, run.id)) as stream:
        await ann.reports(0, Report("ready", 10))
        while b"event: round-opened" not in await stream.content.readline():
            pass
        assert coordinator.open.parts.coordinator._live[run.id].attendance._polls[ann.identity.id] == 1
        await ann.updates(1, [1.0] * 4)
        assert b"event: run-ended" in await stream.content.read()


async def test_a_model_whose_connection_breaks_goes_on_where_it_was(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, plan = await start_puppet("ann"), plan_of(1_000_000)
    run = await scientist.start(coordinator, [ann], plan)
    await ann.takes_part(run)
    await Story(run).until("round-opened", round=1)
    async with a_line(coordinator.address) as line:
        ann._at = line.address
        line.cut("down", 1_000_000, 2_000_000)
        model = await ann.model(1, limit=5_000_000)

    assert len(model) > plan.layout.size == 4_000_004
    assert line.moved["down"] < 1.3 * len(model)  # from the start each time, it would be 7 million


async def test_a_checkpoint_whose_connection_breaks_goes_on_where_it_was(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, plan = await start_puppet("ann"), plan_of(1_000_000)
    run = await scientist.start(coordinator, [ann], plan, rounds=2)
    await ann.takes_part(run)
    story = Story(run)
    await story.until("round-opened", round=1)
    await ann.send(UPDATE, 1, await ann.update(1, [7.0] * 1_000_001, layout=plan.layout))
    await story.until("round-opened", round=2)
    async with a_line(coordinator.address) as line:
        run._address = line.address
        line.cut("down", 1_000_000, 2_000_000)
        learned = await run.checkpoint()

    assert learned.initial == plan.trained(b"\0\0\xe0\x40" * 1_000_001).initial
    assert line.connections == 3
    assert line.moved["down"] < 1.3 * plan.layout.size


async def test_a_run_that_never_was_is_not_found(scientist: Scientist, coordinator: ANode) -> None:
    with pytest.raises(RunNotFound):
        await scientist.calls.call(coordinator.address, RUN, run="0" * 32)
    with pytest.raises(BadRequest):
        await scientist.calls.call(coordinator.address, RUN, run="%2e%2e")


async def test_the_checkpoint_can_be_had_while_the_run_goes_on(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann = await start_puppet("ann")
    run = await scientist.start(coordinator, [ann], rounds=2)
    await ann.takes_part(run)
    story = Story(run)
    await story.until("round-opened", round=1)
    await ann.updates(1, [7.0] * 4)
    await story.until("round-opened", round=2)

    plan = await run.checkpoint()

    assert plan.initial == plan_of().trained(b"\0\0\xe0\x40" * 4).initial
    info = await run.info()
    assert (info.state, info.round, info.rounds) == ("running", 2, 2)
    assert [(each.node_id, each.state, each.examples) for each in info.participants] == [("ann", "ready", 10)]


# --- a restart --------------------------------------------------------------------------------------


async def test_after_a_restart_a_round_goes_on_with_what_was_counted(
    scientist: Scientist, tmp_path: Path, start_puppet: StartPuppet
) -> None:
    first = await a_node("coordinator", tmp_path / "c", data=False)
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run = await scientist.start(first, [ann, bob], rounds=2)
    await ann.takes_part(run)
    await bob.takes_part(run)
    story = Story(run)
    await story.until("round-opened", round=1)
    await ann.updates(1, [1.0] * 4)
    await bob.updates(1, [3.0] * 4)
    await story.until("round-opened", round=2)
    await ann.updates(2, [5.0] * 4)
    await first.stop()
    orphan = tmp_path / "c" / "runs" / run.id / "updates" / "named" / "2-orphan"
    orphan.write_bytes(b"an update that was not counted")

    again = await a_node("coordinator", tmp_path / "c", data=False)

    run._address = again.address
    await Story(run).until("run-resumed", round=2)
    for puppet in (ann, bob):
        puppet.joins(run)
        puppet.listens()
    with pytest.raises(UpdateRepeated):
        await ann.updates(2, [6.0] * 4)
    with pytest.raises(UpdateRepeated):  # also of a round that is over
        await bob.updates(1, [6.0] * 4)
    await bob.updates(2, [7.0] * 4)
    assert await Story(run).until("run-ended") == {"state": "success", "reason": ""}
    assert (await run.checkpoint()).initial == plan_of().trained(b"\0\0\xc0\x40" * 4).initial
    await again.quiet()
    assert again.files() == ["checkpoint-1.safetensors", "checkpoint-2.safetensors", "plan.safetensors"]
    await again.stop()


async def test_nodes_go_on_by_themselves_when_their_coordinator_is_back(
    scientist: Scientist, tmp_path: Path, start_node: StartNode
) -> None:
    first = await a_node("coordinator", tmp_path / "c", data=False)
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=3.0))
    ann.learner.may_go_on.clear()
    run = await scientist.start(first, [ann, bob], rounds=3, quorum=quorum(2))
    await ann.learner.began.wait()
    await Story(run).until("update", node="bob")

    await first.stop()
    ann.learner.may_go_on.set()
    again = await a_node("coordinator", tmp_path / "c", data=False)

    run._address = again.address
    result = await run.result()
    assert [line.accepted for line in result.history] == [2, 2, 2]
    assert (ann.learner.opened, bob.learner.opened) == (1, 1)  # neither prepared anew
    await again.stop()


async def test_a_coordinator_that_will_not_be_back_tells_those_who_take_part(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann")
    ann.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann])
    await ann.learner.began.wait()

    await coordinator.open.parts.coordinator.stop_all("enough")

    await ann.quiet()
    info = await run.info()
    assert (info.state, info.reason) == ("stopped", "enough")


async def test_a_run_that_was_interrupted_while_it_was_prepared_is_prepared_again(
    scientist: Scientist, tmp_path: Path, start_puppet: StartPuppet
) -> None:
    first = await a_node("coordinator", tmp_path / "c", data=False)
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run = await scientist.start(first, [ann, bob], quorum=quorum(2))
    await ann.takes_part(run)
    await Story(run).until("participant", node="ann", state="ready")
    await first.stop()

    again = await a_node("coordinator", tmp_path / "c", data=False)

    run._address = again.address
    ann.joins(run)
    ann.listens()
    await bob.takes_part(run)
    assert len((await Story(run).until("round-opened", round=1))["invited"]) == 2
    await again.stop()


async def test_a_run_whose_task_expired_meanwhile_fails(
    scientist: Scientist, tmp_path: Path, start_puppet: StartPuppet
) -> None:
    first = await a_node("coordinator", tmp_path / "c", data=False)
    ann, plan = await start_puppet("ann"), plan_of()
    await scientist.hand_in(first, plan)
    task = scientist.task(first, plan, expires=time.time() + 0.2)
    run = await scientist.start_task(first, [ann], plan, task)
    await first.stop()
    while time.time() < task.expires:
        await asyncio.to_thread(lambda: None)

    again = await a_node("coordinator", tmp_path / "c", data=False)

    run._address = again.address
    assert (await Story(run).until("run-ended"))["reason"] == "its task expired while the coordinator was away"
    assert (await run.info()).state == "failed"
    await again.stop()


async def test_a_run_whose_plan_is_gone_ends_with_that_reason(
    scientist: Scientist, tmp_path: Path, start_puppet: StartPuppet
) -> None:
    first = await a_node("coordinator", tmp_path / "c", data=False)
    run = await scientist.start(first, [await start_puppet("ann")])
    await first.stop()
    for bundle in (tmp_path / "c" / "blobs" / "named").iterdir():
        bundle.unlink()

    again = await a_node("coordinator", tmp_path / "c", data=False)

    run._address = again.address
    assert (await Story(run).until("run-ended"))["reason"].startswith("the coordinator was restarted: its plan")
    await again.stop()


async def test_a_node_without_seats_for_another_run_says_so_and_the_run_ends_clearly(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(refuses=GridError("all 2 seats are taken")))

    run = await scientist.start(coordinator, [ann])

    with pytest.raises(RunRefused, match="ann: all 2 seats are taken"):
        await run.result()
