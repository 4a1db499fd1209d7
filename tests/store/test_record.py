from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from grid.protocol import assignment
from grid.protocol.assignment import Assignment
from grid.protocol.run import RUNNING, Run
from grid.store import record
from grid.store.database import Database
from grid.store.record import DepositRow, PartRow, PartyRow, ProjectRow, SharedRow, SiteRow
from grid.wire.problems import NotFound, ProjectRefused

ANN = SiteRow(0, "uid-a", "St. Ann", "", "ann", True, 5.0, 1.0, 1.0)
BOB = SiteRow(0, "uid-b", "St. Bob", "", "bob", False, 5.0, 1.0, 1.0)
STROKE = ProjectRow(0, "stroke", "", b"[]", 1.0, 1.0)


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    """A record of two sites, the first of which coordinates a project."""
    async with Database(None, "gateway") as db:
        for site in (ANN, BOB):
            await db.write(lambda c, site=site: record.put_site(c, site))
        await db.write(lambda c: record.put_project(c, STROKE))
        await db.write(lambda c: record.put_party(c, PartyRow(0, 1, 1, True, "", 1.0, 1.0)))
        yield db


async def test_a_site_is_kept_and_changed_and_its_name_and_uid_are_its_own(db: Database) -> None:
    changed = replace(ANN, id=1, heard=9.0, connected=False)
    await db.write(lambda c: record.put_site(c, changed))

    assert await db.read(record.sites) == [changed, replace(BOB, id=2)]
    for taken in (replace(ANN, uid="uid-c"), replace(ANN, name="St. Eve"), replace(BOB, id=2, name="St. Ann")):
        with pytest.raises(ProjectRefused):
            await db.write(lambda c, taken=taken: record.put_site(c, taken))


async def test_a_project_has_one_coordinator_and_each_site_once(db: Database) -> None:
    await db.write(lambda c: record.put_party(c, PartyRow(0, 1, 2, False, "", 1.0, 1.0)))

    for again in (PartyRow(0, 1, 2, False, "", 1.0, 1.0), PartyRow(0, 1, 2, True, "", 1.0, 1.0)):
        with pytest.raises(ProjectRefused):
            await db.write(lambda c, again=again: record.put_party(c, again))
    with pytest.raises(ProjectRefused):
        await db.write(lambda c: record.put_project(c, STROKE))
    with pytest.raises(ProjectRefused):
        await db.write(lambda c: record.delete_site(c, 1))
    assert [(p.site, site.id, p.coordinates) for p, site in await db.read(lambda c: record.parties(c, 1))] == [
        (1, 1, True),
        (2, 2, False),
    ]


async def test_of_projects_and_parts_only_those_are_read_that_were_asked_for(db: Database) -> None:
    await db.write(lambda c: record.put_project(c, replace(STROKE, name="sleep")))
    await db.write(lambda c: record.put_party(c, PartyRow(0, 2, 2, True, "", 1.0, 1.0)))
    for project, batch, party in ((1, 1, 1), (1, 2, 1), (2, 1, 2)):
        await db.write(lambda c, p=project, b=batch: record.put_shared(c, SharedRow(p, b, Run("", 1), b"[]")))
        row = PartRow(0, project, batch, party, Assignment("", 0, ""), 1.0, 1.0)
        await db.write(lambda c, row=row: record.put_part(c, row))

    assert [p.name for p in await db.read(record.projects)] == ["stroke", "sleep"]
    assert [p.name for p in await db.read(lambda c: record.projects_of(c, "bob"))] == ["sleep"]
    assert await db.read(lambda c: record.projects_of(c, "eve")) == []
    assert [p.id for p in await db.read(lambda c: record.project(c, 2))] == [2]
    assert [p.id for p in await db.read(lambda c: record.project_named(c, "stroke"))] == [1]
    assert [p.batch for p in await db.read(lambda c: record.parts(c, 1))] == [1, 2]
    assert [p.id for p in await db.read(lambda c: record.parts(c, 1, 2))] == [2]


async def test_a_run_its_parts_and_what_was_left_with_them_go_with_their_project(db: Database) -> None:
    run = Run("1-1", 3)
    await db.write(lambda c: record.put_shared(c, SharedRow(1, 1, run, b"[]")))
    number = await db.write(lambda c: record.put_part(c, PartRow(0, 1, 1, 1, Assignment("", 0, ""), 1.0, 1.0)))
    await db.write(lambda c: record.add_deposit(c, DepositRow(0, number, "logs", 1, 1, "f" * 64, 7, 1.0)))

    moved = replace(run, state=RUNNING, current=1)
    await db.write(lambda c: record.put_shared(c, SharedRow(1, 1, moved, b"[]")))
    part = PartRow(number, 1, 1, 1, Assignment("1-1", 1, "1", assignment.TRAINING), 1.0, 2.0)
    await db.write(lambda c: record.put_part(c, part))

    assert await db.read(lambda c: record.shared(c, 1)) == [SharedRow(1, 1, moved, b"[]")]
    assert await db.read(lambda c: record.get_part(c, number)) == part
    assert await db.read(record.deposited) == 7
    with pytest.raises(ProjectRefused):
        await db.write(lambda c: record.delete_party(c, 1))
    await db.write(lambda c: record.delete_project(c, 1))
    assert await db.read(lambda c: record.parts(c, 1)) == []
    assert await db.read(record.deposited) == 0
    with pytest.raises(NotFound):
        await db.read(lambda c: record.get_part(c, number))
