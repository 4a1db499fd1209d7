"""Who is drawn into a round, who stands by, and who is drawn when somebody is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from grid.learning.strategy import named
from grid.wire.problems import NotInvited, RoundClosed, RunRefused
from grid.wire.runs import Quorum, Report
from tests.grid_of_nodes import ANode, Learner, Puppet, Scientist, Story, a_node, plan_of, quorum

StartNode = Callable[..., Awaitable[ANode]]
StartPuppet = Callable[..., Awaitable[Puppet]]

ONES = [1.0, 1.0, 1.0, 1.0]
TWO_OF_THREE = Quorum(minimum=1, target=2, drawn=2)


async def three_puppets(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet, asked: Quorum = TWO_OF_THREE, rounds: int = 1
) -> tuple[Story, list[Puppet], Puppet]:
    """A run in round 1: its story, those who were drawn, and the one who was not."""
    puppets = {name: await start_puppet(name) for name in ("ann", "bob", "dan")}
    run = await scientist.start(coordinator, list(puppets.values()), quorum=asked, rounds=rounds)
    for puppet in puppets.values():
        await puppet.takes_part(run)
    story = Story(run)
    drawn = (await story.until("round-opened", round=1))["invited"]
    (spare,) = puppets.keys() - set(drawn)
    return story, [puppets[name] for name in drawn], puppets[spare]


# --- who is drawn ---------------------------------------------------------------------------------


async def test_as_many_are_drawn_as_the_task_says_and_the_others_train_nothing(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = {name: await start_node(name, Learner()) for name in ("ann", "bob", "dan", "eve")}

    run = await scientist.start(
        coordinator, list(nodes.values()), rounds=6, quorum=Quorum(minimum=2, target=2, drawn=2)
    )
    story = Story(run)
    await run.result()
    drawn = [(await story.until("round-opened", round=n))["invited"] for n in range(1, 7)]
    closed = [await story.until("round-closed", round=n) for n in range(1, 7)]

    assert [len(each) for each in drawn] == [2] * 6
    assert len({tuple(sorted(each)) for each in drawn}) > 1  # each round draws anew
    assert [(each["accepted"], each["failed"]) for each in closed] == [(2, {})] * 6


async def test_a_spare_is_not_invited_as_long_as_it_is_not_drawn(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    _, _, spare = await three_puppets(scientist, coordinator, start_puppet)

    with pytest.raises(NotInvited):
        await spare.model(1)
    with pytest.raises(NotInvited):
        await spare.updates(1, ONES)


async def test_more_may_be_drawn_than_the_round_waits_for(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    story, drawn, _ = await three_puppets(scientist, coordinator, start_puppet, Quorum(minimum=1, target=1, drawn=2))

    await drawn[0].reports(1, Report("failed", reason="no electricity"))
    await drawn[1].updates(1, ONES)

    assert (await story.until("round-closed"))["accepted"] == 1
    assert "spare-drawn" not in [kind for kind, _ in story.told]  # one more was drawn than the target needs


async def test_fewer_drawn_than_wanted_is_a_task_that_is_refused(scientist: Scientist, coordinator: ANode) -> None:
    node = coordinator  # its own data will do: the task is refused before anybody is asked
    with pytest.raises(RunRefused, match="1 nodes drawn cannot hand in 2 updates"):
        await scientist.start(coordinator, [node], plan_of(), quorum=Quorum(minimum=1, target=2, drawn=1))


async def test_steps_that_wait_for_nobody_draw_nobody(scientist: Scientist, coordinator: ANode) -> None:
    strategy = msgspec.to_builtins(named("fedasync"))
    with pytest.raises(RunRefused, match="all who are there take part"):
        await scientist.start(
            coordinator, [coordinator], strategy=strategy, quorum=Quorum(minimum=1, target=1, drawn=1)
        )


# --- who is drawn for somebody who is lost ---------------------------------------------------------


async def test_when_a_drawn_node_dies_a_spare_trains_in_its_place_and_the_round_reaches_its_target(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = {name: await start_node(name, Learner()) for name in ("ann", "bob", "dan")}
    for node in nodes.values():
        node.learner.may_go_on.clear()
    run = await scientist.start(coordinator, list(nodes.values()), quorum=TWO_OF_THREE, rounds=2)
    story = Story(run)
    drawn = (await story.until("round-opened", round=1))["invited"]
    (spare,) = nodes.keys() - set(drawn)
    dead, alive = (nodes[name] for name in drawn)
    await dead.learner.began.wait()

    await dead.stop()
    for node in nodes.values():
        node.learner.may_go_on.set()

    async with asyncio.timeout(4):
        assert (await story.until("spare-drawn", round=1))["node"] == spare
        closed = await story.until("round-closed", round=1)
    assert (closed["accepted"], closed["failed"]) == (2, {dead.id: "it stopped listening"})
    assert set((await story.until("round-opened", round=2))["invited"]) == {alive.id, spare}  # not the dead one
    assert (await story.until("run-ended"))["state"] == "success"


async def test_a_spare_is_drawn_for_a_node_that_gives_up_and_for_one_whose_update_is_refused(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    asked = Quorum(minimum=1, target=1, drawn=1)
    ann, bob, dan = [await start_puppet(name) for name in ("ann", "bob", "dan")]
    puppets = {puppet.id: puppet for puppet in (ann, bob, dan)}
    run = await scientist.start(coordinator, [ann, bob, dan], quorum=asked)
    for puppet in puppets.values():
        await puppet.takes_part(run)
    story = Story(run)
    first = puppets[(await story.until("round-opened", round=1))["invited"][0]]

    await first.reports(1, Report("failed", reason="no electricity"))
    second = puppets[(await story.until("spare-drawn"))["node"]]
    with pytest.raises(Exception, match="not finite"):
        await second.updates(1, [float("nan")] * 4)
    (last,) = puppets.keys() - {first.id, second.id}
    await story.until("spare-drawn", node=last)
    await puppets[last].updates(1, ONES)

    closed = await story.until("round-closed")
    assert (closed["accepted"], set(closed["failed"]), set(closed["rejected"])) == (1, {first.id}, {second.id})


async def test_a_node_that_comes_back_is_drawn_for_one_that_nobody_could_replace(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    story, drawn, spare = await three_puppets(
        scientist, coordinator, start_puppet, Quorum(minimum=2, target=2, drawn=2)
    )
    await spare.hangs_up()
    await story_waits(coordinator)
    await drawn[0].hangs_up()  # the quorum needs it: it has a minute to come back
    await story_waits(coordinator)

    spare.listens()

    async with asyncio.timeout(4):
        assert (await story.until("spare-drawn"))["node"] == spare.id
    await spare.updates(1, ONES)
    await drawn[1].updates(1, ONES)
    assert (await story.until("round-closed"))["accepted"] == 2


async def story_waits(coordinator: ANode) -> None:
    """Until somebody's absence was noticed."""
    (drive,) = coordinator.open.parts.coordinator._live.values()
    leaving = drive.attendance._leaving
    async with asyncio.timeout(5):
        while not leaving:
            await asyncio.to_thread(lambda: None)
        while leaving:
            await asyncio.to_thread(lambda: None)


async def test_a_spare_that_was_drawn_is_so_still_when_its_coordinator_is_back(
    scientist: Scientist, tmp_path: Path, start_puppet: StartPuppet
) -> None:
    first = await a_node("coordinator", tmp_path / "c", data=False)
    puppets = {name: await start_puppet(name) for name in ("ann", "bob", "dan")}
    run = await scientist.start(first, list(puppets.values()), quorum=TWO_OF_THREE)
    for puppet in puppets.values():
        await puppet.takes_part(run)
    story = Story(run)
    drawn = (await story.until("round-opened", round=1))["invited"]
    await puppets[drawn[0]].reports(1, Report("failed", reason="no electricity"))
    spare = (await story.until("spare-drawn", round=1))["node"]
    await first.stop()

    again = await a_node("coordinator", tmp_path / "c", data=False)

    run._address = again.address
    await Story(run).until("run-resumed", round=1)
    for name in (drawn[1], spare):
        puppets[name].joins(run)
        puppets[name].listens()
        await puppets[name].updates(1, ONES)
    assert (await Story(run).until("round-closed"))["accepted"] == 2
    assert spare not in drawn
    await again.stop()


# --- too late, and how long there is --------------------------------------------------------------


async def test_a_late_update_hears_when_the_round_closed_and_why(
    scientist: Scientist, coordinator: ANode, start_puppet: StartPuppet
) -> None:
    ann, bob = await start_puppet("ann"), await start_puppet("bob")
    run = await scientist.start(coordinator, [ann, bob], quorum=quorum(1, 1), rounds=2)
    await ann.takes_part(run)
    await bob.takes_part(run)
    story = Story(run)
    await story.until("round-opened", round=1)
    await ann.updates(1, ONES)
    await story.until("round-opened", round=2)

    with pytest.raises(RoundClosed, match=r"round 1 closed .* s ago, at .* UTC: its target of 1 updates was reached"):
        await bob.updates(1, ONES)


async def test_a_deadline_is_learned_from_the_rounds_before(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann, bob = await start_node("ann"), await start_node("bob")

    run = await scientist.start(coordinator, [ann, bob], quorum=quorum(1), rounds=2, pace=3.0, deadline=500.0)
    story = Story(run)
    first, second = [await story.until("round-opened", round=number) for number in (1, 2)]
    ends = (await story.until("round-closed", round=1))["seconds"]

    assert first["deadline"] == 500.0
    assert 1.0 <= second["deadline"] <= max(3.0 * ends, 1.0)
