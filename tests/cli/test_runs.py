"""What a node's owner reads of the runs that the node takes part in."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from grid.cli.node import main
from grid.cli.runs import line, row
from grid.crypto.identity import Identity
from grid.node.records import RunRecords
from grid.protocol.documents import sign_document
from grid.store.database import Database
from grid.store.events import EventLog
from grid.wire.node import Part
from grid.wire.runs import TASK, Event, Invite, Task

ANN = Identity.from_seed(b"a" * 32)
RUN = "0" * 32
AT = time.mktime((2026, 5, 4, 10, 0, 0, 0, 0, -1))


def node(data: Path, *words: str) -> Result:
    return CliRunner(env={"GRID_DATA": str(data)}).invoke(main, ["runs", *words])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of a node that has taken part in a run, still does, and does not run at the moment."""

    async def fill() -> None:
        task = Task(RUN, "0" * 64, ANN.id, ("#pulse",), 0.0, 1e10, rounds=3)
        async with Database(tmp_path / "node.db", "node") as database:
            records = RunRecords(database, EventLog(database), lambda: AT)
            await records.joined(task, Invite(sign_document(ANN, TASK, task), "http://eve:5001", b"prekey"), "pulse")
            await records.noted(RUN, "trained", {"round": 1, "examples": 7, "loss": 0.123456})

    asyncio.run(fill())
    return tmp_path


def test_the_runs_are_listed(data: Path) -> None:
    assert node(data, "list").output == f"{RUN}  stopped  since 2026-05-04 10:00  for {ANN.id}  at http://eve:5001\n"


def test_a_run_that_goes_on_shows_what_it_is_computed_on() -> None:
    part = Part(RUN, "training", ANN.id, "http://eve:5001", AT, "cuda:0 (NVIDIA L4)")

    assert row(part).startswith(f"{RUN}  training  on cuda:0 (NVIDIA L4)  since ")


def test_what_was_done_in_a_run_is_told_also_by_a_node_that_does_not_run(data: Path) -> None:
    told = [
        f"10:00:00  joined     scientist {ANN.id}  coordinator http://eve:5001  dataset pulse",
        "10:00:00  trained    round 1  examples 7  loss 0.1235",
    ]

    assert node(data, "log", RUN).output.splitlines() == told
    assert node(data, "log", RUN, "--follow").output.splitlines() == told  # nothing more can come


def test_a_run_that_never_was_here_is_refused_in_one_line(data: Path) -> None:
    refused = node(data, "log", "f" * 32)

    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: this node has taken no part in run f")
    assert node(data, "log", "no run").exit_code == 2


def test_what_is_not_there_is_not_shown() -> None:
    assert line(Event(1, "progress", AT, {"step": 1, "loss": None})) == "10:00:00  progress   step 1"
