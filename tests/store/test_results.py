from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from grid.protocol.run import Run
from grid.store import results, runs
from grid.store.database import Database
from grid.store.results import Checkpoint, ReportRow


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "node") as db:
        await db.write(lambda c: runs.create_run(c, runs.RunRow(Run("r", 2), "coordinator", b"", "", "", 0.0)))
        yield db


async def test_the_newest_checkpoint_is_that_of_the_latest_round(db: Database) -> None:
    assert await db.read(lambda c: results.latest_checkpoint(c, "r")) is None
    made = [Checkpoint("r", number, f"checkpoint-{number}", "d" * 64, 100) for number in (0, 10, 2)]
    for checkpoint in made:
        await db.write(lambda c, checkpoint=checkpoint: results.add_checkpoint(c, checkpoint))

    assert await db.read(lambda c: results.latest_checkpoint(c, "r")) == made[1]
    assert [c.round for c in await db.read(lambda c: results.checkpoints(c, "r"))] == [0, 2, 10]


async def test_a_checkpoint_that_is_made_again_takes_the_place_of_the_first(db: Database) -> None:
    for digest in ("a" * 64, "b" * 64):
        await db.write(lambda c, digest=digest: results.add_checkpoint(c, Checkpoint("r", 1, "f", digest, 1)))

    assert [c.digest for c in await db.read(lambda c: results.checkpoints(c, "r"))] == ["b" * 64]


async def test_reports_are_kept_one_for_each_node_and_round(db: Database) -> None:
    for loss in (0.9, 0.4):
        report = ReportRow("r", 1, "alice", 20, {"loss": loss}, at=5.0)
        await db.write(lambda c, report=report: results.add_report(c, report))

    assert await db.read(lambda c: results.reports(c, "r")) == [report]
