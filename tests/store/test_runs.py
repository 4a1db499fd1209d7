from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from grid.protocol.run import Prepared, Run, Started, Stopped, advance
from grid.store import runs
from grid.store.database import Database
from grid.store.runs import PARTICIPANT, ParticipantRow, RunRow
from grid.wire.problems import RunNotFound, RunRefused

ASKED = RunRow(Run("r1", rounds=3), "coordinator", b"signed task", "ada", "d" * 64, created=1.0)
TAKEN = RunRow(Run("r1", rounds=3), PARTICIPANT, b"signed task", "ada", "d" * 64, 2.0, peer="http://alpha:5001")


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "node") as db:
        await db.write(lambda c: runs.create_run(c, ASKED))
        yield db


async def test_a_node_may_coordinate_a_run_and_take_part_in_it(db: Database) -> None:
    await db.write(lambda c: runs.create_run(c, TAKEN))

    assert await db.read(lambda c: runs.get_run(c, "r1")) == ASKED
    assert await db.read(lambda c: runs.get_run(c, "r1", PARTICIPANT)) == TAKEN


async def test_a_run_is_asked_for_once(db: Database) -> None:
    with pytest.raises(RunRefused):
        await db.write(lambda c: runs.create_run(c, ASKED))


async def test_a_run_comes_back_where_its_machine_left_it(db: Database) -> None:
    moved, _ = advance(advance(ASKED.run, Started())[0], Prepared())
    await db.write(lambda c: runs.set_run_state(c, moved))
    assert (await db.read(lambda c: runs.get_run(c, "r1"))).run == moved

    stopped, _ = advance(moved, Stopped("enough"))
    await db.write(lambda c: runs.set_run_state(c, stopped, ended=9.0))
    row = await db.read(lambda c: runs.get_run(c, "r1"))
    assert (row.run, row.ended) == (stopped, 9.0)


async def test_runs_are_listed_newest_first_and_those_that_still_go_on_alone(db: Database) -> None:
    later = RunRow(Run("r2", rounds=1), "coordinator", b"", "ada", "", created=2.0, ended=3.0)
    await db.write(lambda c: runs.create_run(c, later))

    assert await db.read(runs.list_runs) == [later, ASKED]
    assert await db.read(lambda c: runs.list_runs(c, unfinished=True)) == [ASKED]
    assert await db.read(lambda c: runs.list_runs(c, PARTICIPANT)) == []


async def test_a_run_that_is_not_here_is_not_found(db: Database) -> None:
    with pytest.raises(RunNotFound):
        await db.read(lambda c: runs.get_run(c, "r2"))
    with pytest.raises(RunNotFound):
        await db.write(lambda c: runs.set_run_state(c, Run("r2", 1)))
    await db.write(lambda c: runs.delete_run(c, "r1"))
    with pytest.raises(RunNotFound):
        await db.read(lambda c: runs.get_run(c, "r1"))


async def test_who_was_asked_into_a_run_is_kept_in_order_with_what_was_announced(db: Database) -> None:
    asked = [ParticipantRow("k2", "bob", "http://bob"), ParticipantRow("k1", "ann", "http://ann")]
    await db.write(lambda c: runs.add_participants(c, "r1", asked))
    await db.write(lambda c: runs.set_ready(c, "r1", "k1", 7))

    kept = await db.read(lambda c: runs.participants(c, "r1"))

    assert kept == [asked[0], ParticipantRow("k1", "ann", "http://ann", 7, ready=True)]
    await db.write(lambda c: runs.delete_run(c, "r1"))
    assert await db.read(lambda c: runs.participants(c, "r1")) == []
