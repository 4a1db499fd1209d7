"""What a coordinator writes down, and the events that tell of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from grid.crypto.identity import Identity
from grid.node.records import RunRecords
from grid.protocol import run as runs
from grid.protocol.documents import sign_document
from grid.protocol.round import NodeCommitted, NodeFailed, Policy, SpareDrawn, open_round
from grid.store.database import Database
from grid.store.events import EventLog
from grid.wire.documents import Signed
from grid.wire.node import Part
from grid.wire.problems import NotInvited, RunNotFound, RunRefused, UpdateRepeated
from grid.wire.runs import TASK, After, Invite, Peer, Task

ANN, EVE = Identity.from_seed(b"a" * 32), Identity.from_seed(b"e" * 32)
RUN = "0" * 32


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[RunRecords]:
    async with Database(tmp_path / "node.db", "node") as database:
        made = RunRecords(database, EventLog(database), lambda: 1000.0)
        await made.created(*a_task())
        yield made


def a_task() -> tuple[Task, Signed, tuple[Peer, ...]]:
    task = Task(RUN, "0" * 64, EVE.id, ("#pulse",), 0.0, 1e10, rounds=3)
    return task, sign_document(ANN, TASK, task), (Peer("ann", "http://ann:5001", ANN.id),)


async def kinds(records: RunRecords, *, to_all: bool) -> list[str]:
    return [event.kind for event in (await records.events(RUN, After(), to_all=to_all)).events]


async def test_a_run_is_its_owners(records: RunRecords) -> None:
    for owner, seen in ((ANN.id, True), (EVE.id, False), (None, True)):
        assert (await records.run(RUN, owner) is not None) is seen
        assert bool(await records.runs(owner)) is seen
    assert await records.run("1" * 32, None) is None


async def test_a_run_id_is_taken_once(records: RunRecords) -> None:
    with pytest.raises(RunRefused):
        await records.created(*a_task())


async def test_all_hear_the_calls_and_only_the_owner_the_rest(records: RunRecords) -> None:
    started, _ = runs.advance(runs.Run(RUN, 3), runs.Started())
    await records.moved(started, "preparing", {"invited": ["ann"]})
    await records.say(RUN, "participant", {"node": "ann"})
    await records.round_opened(open_round(1, Policy(1, 1, 60.0), frozenset({ANN.id}), 0.0), RUN, {"round": 1})

    assert await kinds(records, to_all=True) == ["round-opened"]
    assert await kinds(records, to_all=False) == ["preparing", "participant", "round-opened"]


async def test_events_go_on_from_a_cursor(records: RunRecords) -> None:
    for kind in ("one", "two", "three"):
        await records.say(RUN, kind, {"kind": kind})
    first = await records.events(RUN, After(), to_all=False)

    rest = await records.events(RUN, After(first.events[0].cursor), to_all=False)
    nothing = await records.events(RUN, After(rest.after), to_all=False)

    assert [event.kind for event in rest.events] == ["two", "three"]
    assert (nothing.events, nothing.after) == ((), rest.after)


async def test_an_update_is_counted_once_and_a_refusal_does_not_undo_it(records: RunRecords, tmp_path: Path) -> None:
    r = open_round(1, Policy(1, 1, 60.0), frozenset({ANN.id}), 0.0)
    await records.round_opened(r, RUN, {"round": 1})
    told = {"round": 1, "metrics": {"loss": 0.5}}
    await records.update_accepted(RUN, 1, ANN.id, 3.0, tmp_path / "u", told)

    with pytest.raises(UpdateRepeated):
        await records.update_accepted(RUN, 1, ANN.id, 3.0, tmp_path / "u", told)
    await records.cohort_changed(RUN, r, [NodeFailed(ANN.id, "late")], str)
    with pytest.raises(NotInvited):
        await records.update_accepted(RUN, 1, EVE.id, 3.0, tmp_path / "u", told)

    told_of = await kinds(records, to_all=False)
    assert (told_of.count("update"), told_of.count("assignment")) == (1, 0)


async def test_a_loss_and_the_spare_drawn_for_it_are_written_down_together_or_not_at_all(records: RunRecords) -> None:
    r = open_round(1, Policy(1, 1, 60.0), frozenset({ANN.id}), 0.0)
    await records.round_opened(r, RUN, {"round": 1})
    stranger = [SpareDrawn(EVE.id), NodeFailed("nobody", "away")]

    with pytest.raises(NotInvited):
        await records.cohort_changed(RUN, r, stranger, str)

    assert await kinds(records, to_all=True) == ["round-opened"]
    await records.cohort_changed(RUN, r, [SpareDrawn(EVE.id), NodeFailed(ANN.id, "away")], str)
    assert await kinds(records, to_all=True) == ["round-opened", "spare-drawn"]
    assert (await kinds(records, to_all=False))[-2:] == ["spare-drawn", "assignment"]


async def test_a_node_that_was_lost_and_is_back_is_waited_for_after_a_restart(records: RunRecords) -> None:
    preparing, _ = runs.advance(runs.Run(RUN, 3), runs.Started())
    running, _ = runs.advance(preparing, runs.Prepared())
    await records.moved(running, "prepared", {})
    r = open_round(1, Policy(1, 1, 60.0), frozenset({ANN.id}), 0.0)
    await records.round_opened(r, RUN, {"round": 1})

    await records.cohort_changed(RUN, r, [NodeFailed(ANN.id, "away"), NodeCommitted(ANN.id)], str)

    (left,) = await records.unfinished()
    assert left.round is not None
    assert (left.round.failed, left.round.committed) == ({}, {ANN.id})


async def test_a_run_is_unfinished_until_all_were_told_of_its_end(records: RunRecords) -> None:
    (left,) = await records.unfinished()
    assert (left.run, left.round, left.updates) == (runs.Run(RUN, 3), None, ())
    over, _ = runs.advance(left.run, runs.Stopped("enough"))

    await records.ended(over)

    assert await records.unfinished() == []
    info = await records.run(RUN, None)
    assert info is not None
    assert (info.state, info.reason) == ("stopped", "enough")
    assert await kinds(records, to_all=True) == ["run-ended"]


async def test_an_unfinished_run_knows_who_was_ready_and_what_was_counted_in_which_order(
    records: RunRecords, tmp_path: Path
) -> None:
    preparing, _ = runs.advance(runs.Run(RUN, 3), runs.Started())
    running, _ = runs.advance(preparing, runs.Prepared())
    await records.ready(RUN, ANN.id, {"node": "ann", "examples": 7})
    await records.moved(running, "prepared", {})
    await records.round_opened(open_round(1, Policy(1, 2, 60.0), frozenset({ANN.id, EVE.id}), 0.0), RUN, {"round": 1})
    for key in (EVE.id, ANN.id):
        await records.update_accepted(RUN, 1, key, 3.0, tmp_path / key, {"round": 1, "metrics": {}})

    (left,) = await records.unfinished()

    assert [(p.node_id, p.examples, p.ready) for p in left.participants] == [("ann", 7, True)]
    assert left.updates == ((tmp_path / EVE.id, EVE.id, 0), (tmp_path / ANN.id, ANN.id, 0))
    assert left.round is not None
    assert list(left.round.accepted) == [EVE.id, ANN.id]


async def test_a_node_knows_which_runs_it_takes_part_in(records: RunRecords) -> None:
    task, signed, _ = a_task()
    invite = Invite(signed, "http://eve:5001", b"prekey")
    await records.joined(task, invite, "pulse")

    assert await records.taking_part() == [(RUN, invite)]
    part = Part(RUN, "training", ANN.id, "http://eve:5001", 1000.0, "cuda:0")
    assert await records.parts({RUN: ("training", "cuda:0")}) == [part]

    await records.noted(RUN, "trained", {"round": 1})
    await records.left(RUN)
    assert await records.parts({}) == []
    assert await records.taking_part() == []
    assert await records.run(RUN, None) is not None  # which it coordinates as well


async def test_what_a_participant_notes_is_heard_by_its_own_owner_alone(records: RunRecords) -> None:
    task, signed, _ = a_task()
    with pytest.raises(RunNotFound):
        await records.part_events(RUN, After(0, 20.0))
    await records.joined(task, Invite(signed, "http://eve:5001", b"prekey"), "pulse")
    await records.noted(RUN, "trained", {"round": 1})

    noted = await records.part_events(RUN, After())

    assert [(event.kind, event.data) for event in noted.events] == [
        ("joined", {"scientist": ANN.id, "coordinator": "http://eve:5001", "dataset": "pulse"}),
        ("trained", {"round": 1}),
    ]
    assert (await records.part_events(RUN, After(noted.after))).events == ()
    assert await kinds(records, to_all=True) == await kinds(records, to_all=False) == []
