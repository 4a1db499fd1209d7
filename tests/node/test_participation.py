"""What nodes do in rounds: whole nodes, whose workers are a few lines of numpy."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from grid.node import participation, upstream
from grid.node.participation import Participation, _asked
from grid.node.upstream import Upstream
from grid.store.keys import erase_prekeys
from grid.wire.problems import PlanRefused, RunRefused, WorkerFailed
from grid.wire.runs import Event
from tests.cutting import a_line
from tests.grid_of_nodes import ANode, FakeEngine, Learner, Puppet, Scientist, Story, a_node, numbers, plan_of, quorum

StartNode = Callable[..., Awaitable[ANode]]
StartPuppet = Callable[..., Awaitable[Puppet]]


async def test_a_plan_that_a_node_refuses_ends_the_run_clearly_and_leaves_nothing_at_the_node(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(refuses=PlanRefused("it asks for 9 GiB")))

    run = await scientist.start(coordinator, [ann])

    with pytest.raises(RunRefused, match=r"the quorum is 1\. ann: it asks for 9 GiB"):
        await run.result()
    await ann.quiet()
    assert ann.files() == []
    assert ann.learner.opened == ann.learner.closed == 1


async def test_a_plan_that_is_not_the_one_the_scientist_signed_is_refused(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, plan, another = await start_node("ann"), plan_of(), plan_of(seed=1)
    await scientist.hand_in(coordinator, plan)
    (kept,) = (coordinator.folder / "blobs" / "named").glob("bundle-*")
    kept.write_bytes(another.bundle())  # a coordinator that is up to something

    run = await scientist.start_task(coordinator, [ann], plan, scientist.task(coordinator, plan))

    with pytest.raises(RunRefused, match="not the one that the scientist signed"):
        await run.result()
    await ann.quiet()
    assert ann.learner.opened == 0
    assert ann.files() == []


async def test_a_training_that_fails_is_told_and_the_node_takes_part_in_the_next_round(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann"), await start_node("bob", Learner(stumbles=WorkerFailed("the loss is NaN")))
    run = await scientist.start(coordinator, [ann, bob], rounds=2, quorum=quorum(1))
    story = Story(run)

    first = await story.until("round-closed", round=1)
    assert first["failed"] == {"bob": "the loss is NaN"}
    second = await story.until("round-opened", round=2)
    assert second["invited"] in (["ann", "bob"], ["bob", "ann"])
    await run.result()
    await bob.quiet()
    assert bob.learner.opened == bob.learner.closed > 1  # the seat that failed was not trusted again


async def test_a_worker_that_is_killed_costs_time_only(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(goal=1.0, deaths=1))
    plan = plan_of()
    run = await scientist.start(coordinator, [ann])

    result = await run.result()

    np.testing.assert_allclose(numbers(result.plan.initial), (numbers(plan.initial) + 1) / 2, rtol=1e-6)
    await ann.quiet()
    assert (ann.learner.opened, ann.learner.closed) == (2, 2)


async def test_a_plan_that_kills_every_worker_is_given_up_with_the_reason(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann", Learner(deaths=99)), await start_node("bob")
    run = await scientist.start(coordinator, [ann, bob], quorum=quorum(1))

    closed = await Story(run).until("round-closed", round=1)

    assert closed["failed"] == {"ann": "the worker was killed; so ended 2 workers, one after the other"}
    await run.result()
    await ann.quiet()
    assert ann.learner.opened == ann.learner.closed == 2


async def test_a_seat_in_which_nothing_is_done_is_given_to_a_run_that_needs_one(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann", workers=1), await start_node("bob")
    bob.learner.may_go_on.clear()
    first = await scientist.start(coordinator, [ann, bob], rounds=2)
    await Story(first).until("update", node="ann")
    await ann.rests()  # it has done its part of the round, and waits for bob

    second = await scientist.start(coordinator, [ann])
    await second.result()

    bob.learner.may_go_on.set()
    await first.result()
    await ann.quiet()
    assert ann.learner.opened == ann.learner.closed == 3


async def test_where_jobs_wait_a_node_holds_no_seat_between_its_assignments(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann")
    engine = ann.open.means.trainer
    assert isinstance(engine, FakeEngine)
    engine.waiting = 1
    run = await scientist.start(coordinator, [ann], rounds=2)

    await run.result()

    await ann.quiet()
    assert ann.learner.opened == ann.learner.closed >= 3  # to prepare, and for each round


async def test_a_straggler_gives_its_seat_back_and_takes_part_in_the_next_round(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=3.0))
    bob.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann, bob], rounds=2, quorum=quorum(1), deadline=0.7)
    story = Story(run)
    await bob.learner.began.wait()
    bob.learner.began.clear()
    first = await story.until("round-closed", round=1)
    await bob.learner.began.wait()  # the second time
    bob.learner.may_go_on.set()

    second = await story.until("round-closed", round=2)

    assert (first["accepted"], second["accepted"]) == (1, 2)
    await bob.quiet()
    assert (bob.learner.opened, bob.learner.closed) == (2, 2)


async def test_a_node_that_trains_is_busy_and_afterwards_it_is_not(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", workers=1)
    ann.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann])
    await ann.learner.began.wait()

    during = ann.open.parts.status()

    assert (during.status, during.runs, ann.open.parts.busy()) == ("busy", {"taking part training": 1}, True)
    ann.learner.may_go_on.set()
    await run.result()
    await ann.quiet()
    assert (ann.open.parts.status().status, ann.open.parts.status().runs) == ("online", {})


async def test_a_run_that_is_stopped_ends_the_work_of_its_nodes_at_once(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann")
    ann.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann])
    await ann.learner.began.wait()

    await run.stop()

    async with asyncio.timeout(3):
        await ann.quiet()
    assert ann.learner.closed == 1
    assert ann.files() == []


async def test_a_node_that_takes_long_to_prepare_joins_when_it_is_done(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_node("bob", Learner(goal=1.0))
    run = await scientist.start(coordinator, [bob, ann], rounds=2)
    story = Story(run)
    await story.until("participant", node="bob", state="ready")  # bob listens already, ann comes late

    await ann.takes_part(run)

    assert (await story.until("round-opened", round=1))["invited"] in (["ann", "bob"], ["bob", "ann"])
    start = numbers(plan_of().initial)
    await ann.updates(1, start)
    await story.until("round-opened", round=2)
    np.testing.assert_allclose(numbers((await run.checkpoint()).initial), (start + (start + 1) / 2) / 2, rtol=1e-6)


async def test_a_node_gives_a_coordinator_up_that_stays_away(
    scientist: Scientist, tmp_path: Path, start_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upstream, "AWAY", 0.1)
    coordinator, ann = await a_node("coordinator", tmp_path / "c", data=False), await start_node("ann")
    ann.learner.may_go_on.clear()
    await scientist.start(coordinator, [ann])
    await ann.learner.began.wait()

    await coordinator.stop()

    await ann.quiet()
    assert ann.learner.closed == 1
    assert ann.files() == []


async def test_a_node_that_was_restarted_takes_part_again_by_itself_and_is_waited_for(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, tmp_path: Path
) -> None:
    ann, bob = await start_node("ann"), await a_node("bob", tmp_path / "bob", Learner(goal=1.0))
    bob.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann, bob], rounds=2, quorum=quorum(2))
    await bob.learner.began.wait()
    await Story(run).until("update", node="ann")
    await bob.stop()
    participants = coordinator.open.parts.coordinator._live[run.id].roster
    async with asyncio.timeout(5):
        while participants[bob.identity.id].standing != "gone":
            await asyncio.to_thread(lambda: None)

    again = await start_node("bob", Learner(goal=1.0))

    assert again.identity.id == bob.identity.id
    assert [line.accepted for line in (await run.result()).history] == [2, 2]
    await again.quiet()
    assert await again.open.means.records.taking_part() == []


async def test_a_node_whose_owner_trusts_the_scientist_no_longer_does_not_take_part_again(
    scientist: Scientist, coordinator: ANode, tmp_path: Path
) -> None:
    bob = await a_node("bob", tmp_path / "bob")
    bob.learner.may_go_on.clear()
    await scientist.start(coordinator, [bob])
    await bob.learner.began.wait()
    await bob.open.means.access.distrust(scientist.identity.id)
    await bob.stop()

    again = await a_node("bob", tmp_path / "bob", trust=())

    assert again.open.parts.participant.running() == {}
    assert await again.open.means.records.taking_part() == []
    await again.stop()


class Cut(Upstream):
    """Bob's does not get its first finished update out."""

    stuck = asyncio.Event()

    async def update(self, number: int, path: Path) -> int:
        if self._means.node_id == "bob" and not self.stuck.is_set():
            self.stuck.set()
            await asyncio.Event().wait()
        return await super().update(number, path)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when bob has finished his training, and is stuck."""
    monkeypatch.setattr(Cut, "stuck", asyncio.Event())
    monkeypatch.setattr(participation, "Upstream", Cut)
    return Cut.stuck


async def test_a_node_that_was_stopped_after_its_training_hands_in_what_it_had_finished(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, tmp_path: Path, stuck: asyncio.Event
) -> None:
    ann, bob = await start_node("ann", Learner(goal=1.0)), await a_node("bob", tmp_path / "bob", Learner(goal=1.0))
    run = await scientist.start(coordinator, [bob, ann], quorum=quorum(2))
    await stuck.wait()
    await bob.stop()

    again = await start_node("bob", Learner(stumbles=WorkerFailed("it trains again")))

    assert [line.accepted for line in (await run.result()).history] == [2]
    await again.quiet()
    assert again.files() == []


async def test_what_was_finished_for_a_round_that_is_over_is_dropped(
    scientist: Scientist,
    coordinator: ANode,
    start_node: StartNode,
    stuck: asyncio.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(participation, "SETTLE", 0.0)
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=1.0))

    run = await scientist.start(coordinator, [bob, ann], rounds=2, quorum=quorum(1), deadline=1.0)

    assert [line.accepted for line in (await run.result()).history] == [1, 2]
    assert stuck.is_set()
    await bob.quiet()
    assert bob.files() == []


async def test_a_prekey_that_its_coordinator_no_longer_holds_is_asked_for_anew(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(goal=1.0))
    ann.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann])
    await ann.learner.began.wait()
    keys, database = coordinator.open.means.prekeys, coordinator.open.means.records._db
    await database.write(lambda connection: erase_prekeys(connection, time.time() + 1e9))
    keys._take([])  # as days later

    ann.learner.may_go_on.set()

    assert [line.accepted for line in (await run.result()).history] == [1]


async def test_a_prekey_in_the_second_half_of_its_time_is_replaced(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(goal=1.0))
    ann.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann])
    await ann.learner.began.wait()
    part = ann.open.parts.participant._live[run.id]
    now = int(time.time())
    assert part._upstream._prekey is not None
    part._upstream._prekey = worn = dataclasses.replace(part._upstream._prekey, not_before=now - 60, not_after=now + 30)

    ann.learner.may_go_on.set()

    await run.result()
    assert part._upstream._prekey is not None
    assert part._upstream._prekey.not_after > worn.not_after


async def test_a_line_that_breaks_costs_a_round_no_more_than_what_was_lost(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    plan, learner = plan_of(1_000_000), Learner(goal=4.0)
    learner.may_go_on.clear()
    ann = await start_node("ann", learner)
    async with a_line(coordinator.address) as line:
        coordinator.open.address = line.address
        line.cut("down", 1_000_000, 4_000_000, 1_000_000)
        run = await scientist.start(coordinator, [ann], plan)
        await learner.began.wait()
        down, way_up = line.moved["down"], line.moved["up"]
        line.cut("up", 1_500_000, 1_000_000)
        learner.may_go_on.set()
        result = await run.result()

    assert [each.accepted for each in result.history] == [1]
    size = plan.layout.size
    assert down < 2.3 * size  # the plan and the model
    assert line.moved["up"] - way_up < 1.3 * size


async def test_a_node_can_coordinate_a_run_in_which_it_takes_part(scientist: Scientist, start_node: StartNode) -> None:
    ann, bob = await start_node("ann", Learner(goal=1.0)), await start_node("bob", Learner(goal=1.0))

    result = await (await scientist.start(ann, [ann, bob], rounds=2, holdout=0.2)).result()

    assert [each.accepted for each in result.history] == [2, 2]


def test_of_calls_that_piled_up_only_the_last_counts() -> None:
    told = ["round-opened", "round-closed", "evaluating", "round-opened", "something"]
    events = [Event(cursor, kind, 0.0, {"round": cursor}) for cursor, kind in enumerate(told)]

    assert Participation._newest(events, "ann") == [events[3]]
    assert Participation._newest(events[-1:], "ann") == []


def test_a_node_that_was_not_drawn_stands_by_until_it_is_drawn_as_a_spare() -> None:
    opened = Event(1, "round-opened", 0.0, {"round": 1, "invited": ["ann"]})
    drawn = Event(2, "spare-drawn", 0.0, {"round": 1, "node": "bob"})

    assert [_asked(opened, node) for node in ("ann", "bob")] == [True, False]
    assert Participation._newest([opened, drawn], "ann") == [opened]  # it goes on with what it does
    assert Participation._newest([opened, drawn], "bob") == [drawn]
    assert _asked(drawn, "bob")
