"""Whole runs at a coordinator, over HTTP, with participants that a test moves by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from grid.client.run import AsyncRun
from grid.crypto.identity import Identity
from grid.learning.tensors import Layout, TensorSpec
from grid.protocol.documents import sign_document
from grid.wire.problems import (
    EnvelopeRefused,
    InviteRefused,
    NotInvited,
    RoundClosed,
    RunNotFound,
    RunRefused,
    TooLarge,
    UpdateRefused,
    UpdateRepeated,
)
from grid.wire.runs import REPORT, START_RUN, TASK, UPDATE, Peer, Report, StartRun
from tests.grid_of_nodes import ANode, Learner, Puppet, Scientist, Story, numbers, plan_of, quorum

StartNode = Callable[..., Awaitable[ANode]]
StartPuppet = Callable[..., Awaitable[Puppet]]

ONES = [1.0, 1.0, 1.0, 1.0]


async def two_ready(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet, **words: Any
) -> tuple[AsyncRun, Story, Puppet, Puppet]:
    """A run in round 1, with two puppets of ten examples each that have not handed in anything."""
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run = await scientist.start(coordinator, [ann, bob], **words)
    await ann.takes_part(run)
    await bob.takes_part(run)
    story = Story(run)
    await story.until("round-opened", round=1)
    return run, story, ann, bob


# --- how it should go ---------------------------------------------------------------------------


async def test_two_nodes_converge_to_the_weighted_mean_of_what_they_learned(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(goal=1.0, examples=30, held_out=6))
    bob = await start_node("bob", Learner(goal=-1.0, examples=10, held_out=2))
    plan = plan_of()

    run = await scientist.start(coordinator, [ann, bob], plan, rounds=3, holdout=0.2)
    result = await run.result()

    model = numbers(plan.initial)
    for _ in range(3):
        model = (30 * (model + 1) / 2 + 10 * (model - 1) / 2) / 40
    np.testing.assert_allclose(numbers(result.plan.initial), model, rtol=1e-6)
    assert [(line.round, line.accepted, line.examples) for line in result.history] == [
        (1, 2, 40),
        (2, 2, 40),
        (3, 2, 40),
    ]
    expected = (6 * np.abs(model - 1).mean() + 2 * np.abs(model + 1).mean()) / 8
    assert result.metrics["loss"] == pytest.approx(expected, rel=1e-5)


async def test_nothing_is_left_of_a_run_but_its_newest_checkpoints(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann"), await start_node("bob")

    run = await scientist.start(coordinator, [ann, bob], rounds=4, holdout=0.2)
    await run.result()
    for node in (coordinator, ann, bob):
        await node.quiet()

    assert coordinator.files() == ["checkpoint-3.safetensors", "checkpoint-4.safetensors", "plan.safetensors"]
    assert ann.files() == bob.files() == []
    assert ann.learner.opened == ann.learner.closed == 1


async def test_the_memory_of_a_run_does_not_grow_with_its_rounds(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann")

    run = await scientist.start(coordinator, [ann], rounds=12)
    await run.result()

    (fold_seat,) = coordinator.folder_engine.seats
    assert fold_seat.closed
    assert ann.learner.opened == 1


async def test_a_round_whose_target_is_reached_does_not_wait_for_the_rest(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    run, story, ann, _bob = await two_ready(scientist, coordinator, start_puppet, quorum=quorum(1, 1))

    await ann.updates(1, ONES)

    closed = await story.until("round-closed")
    assert (closed["accepted"], closed["examples"], closed["failed"]) == (1, 10, {})
    assert (await story.until("run-ended"))["state"] == "success"
    np.testing.assert_array_equal(numbers((await run.checkpoint()).initial), ONES)


async def test_one_node_that_dies_in_a_round_is_named_and_the_round_ends_without_it(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann"), await start_node("bob", Learner(goal=5.0))
    bob.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann, bob], rounds=2)
    story = Story(run)
    await bob.learner.began.wait()

    await bob.stop()

    async with asyncio.timeout(4):
        closed = await story.until("round-closed", round=1)
    assert closed["failed"] == {"bob": "it stopped listening"}
    assert closed["accepted"] == 1
    assert (await story.until("round-opened", round=2))["invited"] == ["ann"]
    assert (await story.until("run-ended"))["state"] == "success"


async def test_the_deadline_closes_a_round_that_has_its_quorum(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet, deadline=0.5, quorum=quorum(1, 2))

    await ann.updates(1, ONES)

    assert (await story.until("round-closed"))["accepted"] == 1
    assert (await story.until("run-ended"))["state"] == "success"
    with pytest.raises((RoundClosed, RunNotFound)):
        await bob.updates(1, ONES)


async def test_a_round_below_its_quorum_ends_the_run_and_says_why(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, _ann, bob = await two_ready(scientist, coordinator, start_puppet, deadline=0.5, quorum=quorum(2))
    await bob.reports(1, Report("failed", reason="no electricity"))

    end = await story.until("run-ended")

    assert end["state"] == "failed"
    assert "the quorum is 2" in end["reason"]
    assert "bob: no electricity" in end["reason"]


# --- bad updates: a problem, and the round goes on as before ---------------------------------------


def another(**changes: tuple[int, ...]) -> Layout:
    """The model's layout with other shapes."""
    specs = {spec.name: spec for spec in plan_of().layout.specs}
    return Layout(
        TensorSpec(name, "F32", changes.get(name.partition(".")[2], spec.shape)) for name, spec in specs.items()
    )


@pytest.mark.parametrize(
    ("values", "changes", "why"),
    [
        (ONES, {"layout": Layout([TensorSpec("w", "F32", (4,))])}, "missing"),
        ([*ONES, 1.0], {"layout": another(weight=(1, 4))}, "declared was"),
        (ONES, {"layout": Layout(TensorSpec(s.name, "I32", s.shape) for s in plan_of().layout.specs)}, "I32"),
        ([1.0, np.nan, 1.0, 1.0], {}, "not finite"),
        ([1.0, np.inf, 1.0, 1.0], {}, "not finite"),
        ([1.0, 1.0, 1.0, 1e30], {}, "too large"),
        (ONES[:3], {}, "bytes of tensors where"),
        (ONES * 2, {}, "more than the declared"),
        (ONES, {"examples": 11}, "11 examples, where 10 were announced"),
        (ONES, {"report": Report("trained", 0)}, "how many examples"),
        (ONES, {"report": Report("evaluated", 3)}, "how many examples"),
    ],
    ids=["names", "shape", "dtype", "nan", "infinity", "huge", "short", "long", "greedy", "no examples", "no report"],
)
async def test_an_update_that_cannot_be_counted_is_refused_and_the_round_goes_on(
    scientist: Scientist,
    coordinator: ANode,
    start_puppet: StartPuppet,
    values: list[float],
    changes: dict[str, Any],
    why: str,
) -> None:
    run, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)

    with pytest.raises(UpdateRefused, match=why):
        await bob.updates(1, values, **changes)

    with pytest.raises(UpdateRefused, match=why):  # for good
        await bob.updates(1, ONES)
    await ann.updates(1, ONES)
    closed = await story.until("round-closed")
    assert closed["accepted"] == 1
    assert why in closed["rejected"]["bob"]
    np.testing.assert_array_equal(numbers((await run.checkpoint()).initial), ONES)


def flipped(envelope: bytes) -> bytes:
    """One bit of the sealed numbers."""
    at = len(envelope) - 100
    return envelope[:at] + bytes([envelope[at] ^ 1]) + envelope[at + 1 :]


@pytest.mark.parametrize(
    ("changes", "spoil"),
    [
        ({"run": "another0run0another0run0"}, bytes),
        ({"number": 2}, bytes),
        ({"kind": "model"}, bytes),
        ({"identity": Identity.generate()}, bytes),
        ({"audience": b""}, bytes),
        ({"expires": 5, "created": 1}, bytes),
        ({}, flipped),
        ({}, lambda sealed: sealed[:-1]),
        ({}, lambda sealed: sealed[:40]),
        ({}, lambda sealed: sealed + b"x"),
        ({}, lambda sealed: b""),
        ({"identity": Identity.generate(), "layout": Layout([TensorSpec("w", "F32", (4,))])}, bytes),
    ],
    ids=["run", "round", "kind", "sender", "broadcast", "old", "bit", "cut", "stump", "more", "empty", "shape"],
)
async def test_an_envelope_that_does_not_open_is_refused_and_may_be_sent_again(
    scientist: Scientist,
    coordinator: ANode,
    start_puppet: StartPuppet,
    changes: dict[str, Any],
    spoil: Callable[[bytes], bytes],
) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)
    envelope = await bob.update(**({"number": 1, "values": ONES} | changes))

    with pytest.raises(EnvelopeRefused):
        await bob.send(UPDATE, 1, spoil(envelope))

    await bob.updates(1, ONES)
    await ann.updates(1, ONES)
    assert (await story.until("round-closed"))["accepted"] == 2
    await coordinator.quiet()
    assert [name for name in coordinator.files() if "checkpoint" not in name] == ["plan.safetensors"]


async def test_a_forged_update_of_another_shape_is_not_held_against_whom_it_names(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)
    wrong = Layout([TensorSpec("w", "F32", (4,))])
    envelope = bytearray(await bob.update(1, ONES, layout=wrong))
    envelope[-1] ^= 1  # the signature

    with pytest.raises(EnvelopeRefused):
        await bob.send(UPDATE, 1, bytes(envelope))

    await bob.updates(1, ONES)
    await ann.updates(1, ONES)
    assert (await story.until("round-closed"))["rejected"] == {}


async def test_an_update_counts_once(scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)
    await bob.updates(1, ONES)

    with pytest.raises(UpdateRepeated):
        await bob.updates(1, [9.0] * 4)

    await ann.updates(1, ONES)
    assert (await story.until("round-closed"))["examples"] == 20


async def test_what_fails_after_its_update_was_counted_stays_counted(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)
    await bob.updates(1, ONES)

    await bob.reports(1, Report("failed", reason="the answer to the upload was lost"))

    await ann.updates(1, ONES)
    assert (await story.until("round-closed"))["failed"] == {}


async def test_an_update_of_a_round_that_is_not_open_meets_a_closed_door(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet, rounds=2, quorum=quorum(1, 1))

    for number in (0, 2, 99):
        with pytest.raises(RoundClosed):
            await bob.updates(number, ONES)
    await ann.updates(1, ONES)
    await story.until("round-opened", round=2)

    with pytest.raises(RoundClosed):
        await bob.updates(1, ONES)
    with pytest.raises(RoundClosed):
        await bob.model(1)


async def test_whoever_is_not_invited_gets_nothing_and_gives_nothing(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    run, _, ann, _ = await two_ready(scientist, coordinator, start_puppet)
    eve = await start_puppet("eve")
    eve.joins(run)
    eve.invite = ann.invite
    before = coordinator.files()

    with pytest.raises(NotInvited):
        await eve.updates(1, ONES)
    with pytest.raises(NotInvited):
        await eve.reports(1, Report("failed"))
    with pytest.raises(NotInvited):
        await eve.model(1)
    with pytest.raises(NotInvited):
        await eve.bundle()
    with pytest.raises(RunNotFound):
        await eve.hears()

    assert coordinator.files() == before


async def test_an_update_far_larger_than_the_model_is_cut_off(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)

    with pytest.raises(TooLarge):
        await bob.send(UPDATE, 1, b"grid-env" + bytes(4 << 20))

    await bob.updates(1, ONES)
    await ann.updates(1, ONES)
    assert (await story.until("round-closed"))["accepted"] == 2


async def test_a_report_that_somebody_else_sealed_changes_nothing(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)

    with pytest.raises(EnvelopeRefused):
        await bob.reports(1, Report("failed", reason="forged"), identity=ann.identity)
    with pytest.raises(EnvelopeRefused):
        await bob.send(REPORT, 1, await bob.sealed("report", 0, b"\x80"))

    await bob.updates(1, ONES)
    await ann.updates(1, ONES)
    assert (await story.until("round-closed"))["failed"] == {}


async def test_a_participant_cannot_announce_more_examples_once_it_is_ready(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, _, _, bob = await two_ready(scientist, coordinator, start_puppet)

    await bob.reports(0, Report("ready", examples=10**9))
    await bob.reports(1, Report("ready", examples=10**9))

    with pytest.raises(UpdateRefused, match="10 were announced"):
        await bob.updates(1, ONES, 10**9)


# --- who comes and goes ---------------------------------------------------------------------------


async def test_a_worker_that_dies_while_it_sums_costs_nothing(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    run, _, ann, bob = await two_ready(scientist, coordinator, start_puppet)
    await ann.updates(1, [2.0] * 4)
    coordinator.folder_engine.seats[-1].broken = True

    await bob.updates(1, [4.0] * 4)

    await run.result()
    np.testing.assert_array_equal(numbers((await run.checkpoint()).initial), [3.0] * 4)
    assert len(coordinator.folder_engine.seats) == 2


async def test_a_node_that_cannot_load_the_plan_is_left_out_and_says_why(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run = await scientist.start(coordinator, [ann, bob], quorum=quorum(1))
    story = Story(run)
    await ann.takes_part(run)
    bob.joins(run)
    await bob.reports(0, Report("failed", reason="unknown op" + "!" * 10_000))

    told = await story.until("participant", node="bob", state="failed")

    assert told["reason"].startswith("unknown op")
    assert len(told["reason"]) <= 500
    assert (await story.until("round-opened"))["invited"] == ["ann"]


async def test_a_run_that_nobody_can_join_ends_before_its_first_round_and_names_all_reasons(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    ann.refuses = InviteRefused("no time")
    run = await scientist.start(coordinator, [ann, bob])
    bob.joins(run)
    await bob.invite
    await bob.reports(0, Report("failed", reason="no memory"))

    with pytest.raises(RunRefused, match=r"0 nodes are ready.*ann: no time; bob: no memory"):
        await run.result()


async def test_a_node_that_is_listed_under_another_name_is_not_waited_for(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, plan = await start_node("ann"), plan_of()
    await scientist.hand_in(coordinator, plan)
    task = scientist.task(coordinator, plan)
    message = StartRun(sign_document(scientist.identity, TASK, task), (Peer("anna", ann.address, ann.identity.id),))

    await scientist.calls.call(coordinator.address, START_RUN, message, peer=coordinator.identity.public)
    run = AsyncRun(scientist.calls, scientist.identity, coordinator.address, task, plan, time.time)

    with pytest.raises(RunRefused, match="anna: it calls itself ann"):
        await run.result()


async def test_a_node_that_is_away_when_a_round_opens_takes_part_in_the_next(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run = await scientist.start(coordinator, [ann, bob], rounds=2, quorum=quorum(1))
    await ann.takes_part(run)
    await bob.takes_part(run)
    story = Story(run)
    await story.until("round-opened", round=1)
    await bob.hangs_up()
    await ann.updates(1, ONES)
    closed = await story.until("round-closed", round=1)
    await story.until("round-opened", round=2)

    bob.listens()  # it opened without it: bob hears that it is not invited
    with pytest.raises(NotInvited):
        await bob.model(2)

    await bob.reports(2, Report("failed", reason="not invited"))
    await ann.updates(2, ONES)
    assert closed["failed"] == {"bob": "it stopped listening"}
    assert (await story.until("round-closed", round=2))["failed"] == {}


async def test_a_node_with_nothing_to_measure_does_not_hold_the_last_evaluation(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann"), await start_node("bob", Learner(held_out=0))

    run = await scientist.start(coordinator, [ann, bob], holdout=0.2)
    async with asyncio.timeout(5):
        result = await run.result()

    assert "loss" in result.metrics


async def test_a_node_that_fails_in_the_last_evaluation_does_not_hold_it(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _run, story, ann, bob = await two_ready(scientist, coordinator, start_puppet, holdout=0.5)
    await ann.updates(1, ONES)
    await bob.updates(1, ONES)
    await story.until("evaluating")
    await ann.reports(2, Report("evaluated", 4, {"loss": 0.5, "broken": float("nan")}))

    await bob.reports(2, Report("failed", reason="out of memory"))

    async with asyncio.timeout(5):
        measured = await story.until("evaluated", round=1)
    assert measured["metrics"] == {"loss": 0.5}
    assert (measured["examples"], measured["nodes"]) == (4, 1)


async def test_a_run_can_be_stopped_by_its_owner_and_everybody_hears_it(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    run, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)

    await run.stop()

    assert await story.until("run-ended") == {"state": "stopped", "reason": "stopped by its owner"}
    async with asyncio.timeout(5):
        await ann._polling
    assert ann.heard == ["round-opened", "run-ended"]
    with pytest.raises(RunNotFound):
        await bob.updates(1, ONES)
    assert (await run.info()).state == "stopped"
    with pytest.raises(RunRefused, match="stopped by its owner"):
        await run.result()
    with pytest.raises(RunNotFound, match="no checkpoint"):
        await run.checkpoint()


async def test_a_participant_hears_the_calls_to_all_and_nothing_else(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, ann, _ = await two_ready(scientist, coordinator, start_puppet)

    heard = await ann.hears()

    assert [event.kind for event in heard.events] == ["round-opened"]
    assert "participant" in [kind for kind, _ in story.told]


async def test_a_coordinator_that_cannot_write_ends_the_run_and_says_so(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, story, ann, bob = await two_ready(scientist, coordinator, start_puppet)
    (folder,) = (coordinator.folder / "runs").iterdir()
    (folder / "checkpoint-1.draft").mkdir()  # in the way of the file

    await ann.updates(1, ONES)
    await bob.updates(1, ONES)

    end = await story.until("run-ended")
    assert end["state"] == "failed"
    assert "could not go on" in end["reason"]
