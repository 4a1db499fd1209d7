from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from grid.protocol import assignment
from grid.protocol.assignment import Assignment
from grid.protocol.pace import Arrivals
from grid.protocol.round import (
    AGGREGATING,
    DeadlinePassed,
    NodeCommitted,
    NodeFailed,
    Policy,
    Resumed,
    Round,
    UpdateAccepted,
    UpdateRejected,
    UploadBegan,
    advance,
    open_round,
)
from grid.protocol.run import Run
from grid.store import rounds, runs
from grid.store.database import Database
from grid.store.rounds import AssignmentRow
from grid.store.schema import Transaction
from grid.wire.problems import NotFound, NotInvited, UpdateRepeated

NODES = frozenset({"alice", "bob", "carol", "dave", "erin"})
OPENED = open_round(1, Policy(quorum=2, target=5, deadline=100.0), NODES, at=10.0)


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "node") as db:
        await db.write(lambda c: runs.create_run(c, runs.RunRow(Run("r", 1), "coordinator", b"", "", "", 0.0)))
        await db.write(lambda c: rounds.open_round(c, "r", OPENED))
        yield db


async def accept(db: Database, node: str, weight: float) -> None:
    await db.write(
        lambda c: rounds.accept_update(c, "r", 1, node, weight=weight, file=f"{node}.sealed", metrics={"loss": 0.5})
    )


async def test_a_round_that_was_just_opened_comes_back_as_it_was(db: Database) -> None:
    assert await db.read(lambda c: rounds.get_round(c, "r", 1)) == OPENED


async def test_when_updates_came_is_read_back_round_by_round(db: Database) -> None:
    for number in (2, 3):
        opened = open_round(number, Policy(quorum=1, target=4, deadline=100.0), NODES, at=10.0 * number)
        await db.write(lambda c, r=opened: rounds.open_round(c, "r", r))
    for node, at in (("bob", 23.0), ("alice", 25.5)):
        await db.write(
            lambda c, node=node, at=at: rounds.accept_update(c, "r", 2, node, weight=1.0, file=node, metrics={}, at=at)
        )

    found = await db.read(lambda c: rounds.arrivals(c, "r", 4, 2))

    assert found == [Arrivals((3.0, 5.5), missing=2), Arrivals((), missing=4)]
    assert await db.read(lambda c: rounds.arrivals(c, "r", 1, 5)) == []


async def test_a_coordinator_that_was_killed_finds_its_round_as_the_machine_left_it(db: Database) -> None:
    """Each change goes through machine and rows; at the end the rows alone give the same record."""
    r: Round = OPENED
    for event in [
        *(NodeCommitted(node) for node in ("alice", "bob", "carol", "dave")),
        *(UploadBegan(node, 20.0) for node in ("carol", "alice", "bob")),
        UpdateAccepted("carol", 30.0, 21.0),
        UpdateAccepted("alice", 10.0, 22.0),
        UpdateRejected("bob", "not finite"),
        NodeFailed("dave", "gone"),
    ]:
        r, _ = advance(r, event)
    for node in ("alice", "bob", "carol", "dave"):
        await db.write(
            lambda c, n=node: rounds.set_assignment(c, assignment.advance(Assignment("r", 1, n), COMMITTED)[0])
        )
    await accept(db, "carol", 30.0)
    await accept(db, "alice", 10.0)
    for a in (
        Assignment("r", 1, "bob", assignment.REJECTED, "not finite"),
        Assignment("r", 1, "dave", assignment.FAILED, "gone"),
    ):
        await db.write(lambda c, a=a: rounds.set_assignment(c, a))
    await db.write(lambda c: rounds.set_round_state(c, "r", r))

    found = await db.read(lambda c: rounds.get_round(c, "r", 1))

    assert found == r
    assert list(found.accepted) == ["carol", "alice"]
    resumed, _ = advance(found, Resumed())
    assert advance(resumed, DeadlinePassed(110.0))[0].state == AGGREGATING


COMMITTED = assignment.Committed()


async def test_counted_updates_are_given_in_the_order_of_their_arrival(db: Database) -> None:
    for node in ("dave", "alice", "carol"):
        await accept(db, node, 1.0)

    updates = await db.read(lambda c: rounds.accepted_updates(c, "r", 1))

    assert [u.assignment.node for u in updates] == ["dave", "alice", "carol"]
    assert [u.file for u in updates] == ["dave.sealed", "alice.sealed", "carol.sealed"]
    assert {u.assignment.state for u in updates} == {assignment.ACCEPTED}
    assert updates[0].metrics == {"loss": 0.5}


async def test_no_update_is_counted_twice_or_uncounted_or_taken_from_a_stranger(db: Database) -> None:
    await accept(db, "alice", 1.0)

    with pytest.raises(UpdateRepeated):
        await accept(db, "alice", 2.0)
    with pytest.raises(UpdateRepeated):
        await db.write(lambda c: rounds.set_assignment(c, Assignment("r", 1, "alice", assignment.FAILED, "gone")))
    with pytest.raises(NotInvited):
        await accept(db, "mallory", 1.0)
    with pytest.raises(NotInvited):
        await db.write(lambda c: rounds.set_assignment(c, Assignment("r", 1, "mallory")))

    (update,) = await db.read(lambda c: rounds.accepted_updates(c, "r", 1))
    assert update.weight == 1.0


async def test_what_was_made_of_an_earlier_model_is_found_by_that_model(db: Database) -> None:
    await db.write(lambda c: rounds.open_round(c, "r", replace(OPENED, number=3)))
    await db.write(
        lambda c: rounds.accept_update(c, "r", 3, "alice", weight=1.0, file="alice.sealed", metrics={}, base=1)
    )
    await db.write(lambda c: rounds.accept_update(c, "r", 3, "bob", weight=1.0, file="bob.sealed", metrics={}))

    async def counted_in(base: int, node: str) -> int:
        return await db.read(lambda c: rounds.counted_in(c, "r", base, node))

    assert [await counted_in(base, "alice") for base in (1, 2, 3)] == [3, 0, 0]
    assert [await counted_in(base, "bob") for base in (1, 2, 3)] == [0, 0, 3]
    assert [row.base for row in await db.read(lambda c: rounds.accepted_updates(c, "r", 3))] == [1, 0]


async def test_what_is_noted_about_a_round_stays_until_it_is_noted_anew(db: Database) -> None:
    await db.write(lambda c: rounds.set_round_state(c, "r", OPENED, closed=50.0, summary={"bytes": 10.0}))
    await db.write(lambda c: rounds.set_round_state(c, "r", OPENED))

    assert await db.read(lambda c: rounds.round_summaries(c, "r")) == {1: {"bytes": 10.0}}


async def test_a_participant_keeps_its_own_assignment_beside_the_coordinators(db: Database) -> None:
    await db.write(lambda c: runs.create_run(c, runs.RunRow(Run("r", 1), "participant", b"", "", "", 0.0)))
    mine = AssignmentRow(Assignment("r", 1, "alice", assignment.UPLOADED), "participant", file="alice.sealed")

    await db.write(lambda c: rounds.put_assignment(c, mine))

    assert await db.read(lambda c: rounds.get_assignment(c, "r", 1, "alice", "participant")) == mine
    theirs = await db.read(lambda c: rounds.get_assignment(c, "r", 1, "alice"))
    assert theirs
    assert theirs.assignment.state == assignment.INVITED
    assert await db.read(lambda c: rounds.get_assignment(c, "r", 1, "mallory")) is None


async def test_a_round_that_is_not_here_is_not_found_and_goes_with_its_run(db: Database) -> None:
    with pytest.raises(NotFound):
        await db.read(lambda c: rounds.get_round(c, "r", 2))
    with pytest.raises(NotFound):
        await db.write(lambda c: rounds.set_round_state(c, "x", OPENED))

    await db.write(lambda c: runs.delete_run(c, "r"))
    assert await db.read(lambda c: rounds.assignments(c, "r", 1)) == []


async def test_a_participant_keeps_its_own_assignments_apart_and_forgets_the_old_ones(db: Database) -> None:
    mine = [AssignmentRow(Assignment("r", number, "alice", assignment.UPLOADED), "participant") for number in (1, 2)]

    def work(connection: Transaction) -> None:
        runs.create_run(connection, runs.RunRow(Run("r", 1), "participant", b"", "", "", 0.0))
        for row in mine:
            rounds.put_assignment(connection, row)

    await db.write(work)

    assert await db.read(lambda c: rounds.own_assignments(c, "r", "alice")) == mine
    await db.write(lambda c: rounds.forget_own_assignments(c, "r", 2))
    assert await db.read(lambda c: rounds.own_assignments(c, "r", "alice")) == mine[1:]
    assert len(await db.read(lambda c: rounds.assignments(c, "r", 1))) == len(NODES)
