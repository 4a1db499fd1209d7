"""What a node tells its owner of its part in a run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.node.journal import Journal
from grid.node.records import RunRecords
from grid.store.database import Database
from grid.store.events import EventLog
from grid.wire.node import PART_EVENTS, PARTS
from grid.wire.problems import NotAllowed, RunNotFound
from grid.wire.runs import After
from tests.grid_of_nodes import SCIENTIST, ANode, Learner, Scientist

RUN = "0" * 32
STEP = {"step": 1, "steps": 4, "epoch": 1, "loss": 0.5}
StartNode = Callable[..., Awaitable[ANode]]


@pytest.fixture
async def records(tmp_path: Path) -> AsyncIterator[RunRecords]:
    async with Database(tmp_path / "node.db", "node") as database:
        yield RunRecords(database, EventLog(database), lambda: 1000.0)


async def heard(records: RunRecords, bodies: list[dict[str, Any]], seconds: float) -> list[dict[str, Any]]:
    """The entries that a worker's words come to, said `seconds` after one another."""
    at = [0.0]
    journal = Journal(records, RUN, lambda: at[0], asyncio.create_task)
    hear = journal.progress_of(3)
    for body in bodies:
        hear(body)
        at[0] += seconds
    journal.note("trained", round=3)
    await journal.written()
    *entries, last = (await records.part_events(RUN, After())).events
    assert last.kind == "trained"
    return [entry.data for entry in entries]


async def test_progress_is_noted_with_its_round(records: RunRecords) -> None:
    assert await heard(records, [STEP], 1.0) == [{"round": 3, **STEP}]


async def test_a_worker_that_talks_without_end_fills_no_disk(records: RunRecords) -> None:
    assert len(await heard(records, [STEP] * 1000, 0.01)) == 10


@pytest.mark.parametrize(
    "body", [{"step": "name of a patient"}, {**STEP, "step": 9}, {**STEP, "steps": 1 << 60}, {**STEP, "epoch": -1}, {}]
)
async def test_what_no_training_says_is_not_kept(records: RunRecords, body: dict[str, Any]) -> None:
    assert await heard(records, [body, {**STEP, "rows": [1, 2]}], 1.0) == [{"round": 3, **STEP}]


async def test_the_owner_reads_what_the_node_does_in_a_run_and_nobody_else(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(deaths=1), owners=(SCIENTIST.id,))
    ann.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann])
    await ann.learner.began.wait()
    async with open_http(Egress(allow_private=True)) as http:
        owner, stranger = (Calls(http, identity=identity) for identity in (SCIENTIST, coordinator.identity))

        (part,) = (await owner.call(ann.address, PARTS)).parts
        assert (part.run, part.state, part.scientist) == (run.id, "training", SCIENTIST.id)
        ann.learner.may_go_on.set()
        await run.result()
        await ann.quiet()

        found = await owner.call(ann.address, PART_EVENTS, query=After(), run=run.id)
        kinds = [event.kind for event in found.events]
        assert [kind for kind in kinds if kind != "progress"] == ["joined", "worker-lost", "trained", "left"]
        assert kinds[1] == "progress"
        assert (await owner.call(ann.address, PARTS)).parts == ()
        with pytest.raises(NotAllowed):
            await stranger.call(ann.address, PARTS)
        with pytest.raises(NotAllowed):
            await stranger.call(ann.address, PART_EVENTS, query=After(), run=run.id)
        with pytest.raises(RunNotFound):
            await owner.call(ann.address, PART_EVENTS, query=After(), run="f" * 32)
