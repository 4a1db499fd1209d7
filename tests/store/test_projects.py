from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from grid.protocol.project import RUNNING, STOPPED, Batch
from grid.protocol.run import Run
from grid.store import projects, runs
from grid.store.database import Database
from grid.store.projects import ProjectRow
from grid.wire.problems import ProjectNotFound, ProjectRefused

OURS = ProjectRow("p", "coordinator", "survival", b"signed", 1.0)


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "node") as db:
        await db.write(lambda c: projects.add_project(c, OURS))
        yield db


async def test_a_node_can_coordinate_a_project_and_take_part_in_it(db: Database) -> None:
    joined = ProjectRow("p", "participant", "survival", b"signed", 2.0, "http://here:1")
    await db.write(lambda c: projects.add_project(c, joined))

    assert await db.read(projects.list_projects) == [joined, OURS]
    await db.write(lambda c: projects.remove_project(c, "p", "participant"))
    assert await db.read(lambda c: projects.get_project(c, "p")) == OURS
    with pytest.raises(ProjectNotFound):
        await db.read(lambda c: projects.get_project(c, "p", "participant"))


async def test_a_name_is_one_projects_only(db: Database) -> None:
    with pytest.raises(ProjectRefused):
        await db.read(lambda c: projects.refuse_taken(c, "survival"))
    await db.read(lambda c: projects.refuse_taken(c, "recovery"))


async def test_a_membership_takes_the_place_of_the_one_before_and_of_the_admission(db: Database) -> None:
    await db.write(lambda c: projects.admit(c, "p", "eve"))
    await db.write(lambda c: projects.admit(c, "p", "bob"))
    for document in (b"joins", b"leaves"):
        await db.write(lambda c, document=document: projects.set_membership(c, "p", "eve", document))
    await db.write(lambda c: projects.admit(c, "p", "eve"))

    assert await db.read(lambda c: projects.memberships(c, "p")) == {"eve": b"leaves", "bob": None}


async def test_a_batch_is_kept_with_every_run_that_it_had(db: Database) -> None:
    first = Batch("p", 1, 2, 1, "a", RUNNING)
    await db.write(lambda c: projects.put_batch(c, first, 5.0))
    await db.write(lambda c: runs.create_run(c, runs.RunRow(Run("a", 2), "coordinator", b"", "", "", 0.0)))
    last = Batch("p", 1, 2, 1, "b", STOPPED, "by its owner")
    await db.write(lambda c: projects.put_batch(c, last, 6.0))

    assert await db.read(lambda c: projects.batches(c, "p")) == [(last, 5.0)]
    assert await db.read(lambda c: projects.batch_runs(c, "p")) == [(1, 1, "a", "standby"), (1, 1, "b", "")]
    assert await db.read(projects.unfinished_batches) == []
