"""`grid runs`, against a real coordinator."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from grid.cli.grid import main
from grid.client.run import AsyncRun
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.wire.runs import Stopping
from tests.grid_of_nodes import SCIENTIST, ANode, Learner, Scientist, numbers, plan_of

StartNode = Callable[..., Awaitable[ANode]]
Command = Callable[..., Awaitable[Result]]


def save(identity: Identity, path: Path) -> None:
    """Put a key where the command finds it."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(identity.pem())


@pytest.fixture
def grid(tmp_path: Path, coordinator: ANode) -> Command:
    """Runs `grid runs ...` as the scientist."""
    home = tmp_path / "home"
    save(SCIENTIST, home / "identity.key")
    env = {"GRID_HOME": str(home), "GRID_COORDINATOR": coordinator.address}
    return lambda *words: asyncio.to_thread(CliRunner(env=env).invoke, main, ["runs", *words])


@pytest.fixture
async def run(scientist: Scientist, coordinator: ANode, start_node: StartNode) -> AsyncRun:
    """A run of two nodes that is over: after five rounds, of which the third was the best."""
    ann, bob = await start_node("ann", Learner(goal=7.0)), await start_node("bob", Learner(goal=9.0))
    plan = plan_of().trained(bytes(16))
    rule = Stopping("loss", "min", patience=1, min_delta=0.3)
    run = await scientist.start(coordinator, [ann, bob], plan, rounds=9, holdout=0.2, stop=rule)
    await run.result()
    for node in (ann, bob, coordinator):
        await node.quiet()
    return run


async def test_runs_are_listed_and_shown_with_each_nodes_metrics_and_a_curve(grid: Command, run: AsyncRun) -> None:
    listed, shown = await grid("list"), await grid("show", run.id)

    assert listed.exit_code == shown.exit_code == 0, shown.output
    assert run.id in listed.stdout
    assert "success" in listed.stdout
    lines = shown.stdout.splitlines()
    assert lines[0].startswith(f"{run.id}  success, round {len(run.history.lines())} of 9: loss was best in round ")
    assert "loss" in lines[1]
    assert "ann loss" in lines[1]
    assert "bob loss" in lines[1]
    assert sum(line.partition("  ")[0].endswith("*") for line in lines) == 1
    assert any(line.startswith("loss  █") for line in lines)


async def test_a_run_becomes_a_page_and_event_files(grid: Command, run: AsyncRun, tmp_path: Path) -> None:
    page, board = tmp_path / "run.html", tmp_path / "board"

    shown = await grid("show", run.id, "--report", str(page), "--tensorboard", str(board))

    assert shown.exit_code == 0, shown.output
    text = page.read_text()
    assert text.count("<svg") == 3
    assert "ann: loss" in text
    assert "://" not in text
    assert "<script" not in text
    assert sorted(file.parent.name for file in board.rglob("events.*")) == ["all", "node ann", "node bob"]


async def test_what_was_learned_is_fetched_of_the_newest_round_the_best_or_a_kept_one(
    grid: Command, run: AsyncRun, tmp_path: Path
) -> None:
    newest, best, lost = tmp_path / "newest", tmp_path / "best", tmp_path / "lost"

    assert (await grid("get", run.id, "-o", str(newest))).exit_code == 0
    assert (await grid("get", run.id, "--best", "-o", str(best))).exit_code == 0
    refused = await grid("get", run.id, "--round", "99", "-o", str(lost))

    result = await run.result()
    assert result.best is not None
    np.testing.assert_array_equal(numbers(Plan.load(newest).initial), numbers(result.plan.initial))
    np.testing.assert_array_equal(numbers(Plan.load(best).initial), numbers(result.best.initial))
    assert (refused.exit_code, lost.exists()) == (1, False)
    assert "checkpoint of round 99 is not kept" in refused.stderr


async def test_a_run_is_stopped_by_its_owner(
    grid: Command, scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann")
    ann.learner.may_go_on.clear()
    run = await scientist.start(coordinator, [ann], rounds=9)
    await ann.learner.began.wait()

    stopped = await grid("stop", run.id)
    await coordinator.quiet()

    assert stopped.exit_code == 0, stopped.output
    assert (await run.info()).state == "stopped"
    assert "stopped by its owner" in (await grid("list")).stdout


async def test_a_run_of_somebody_else_is_none(grid: Command, run: AsyncRun, tmp_path: Path) -> None:
    save(Identity.generate(), tmp_path / "home" / "identity.key")

    refused = await grid("show", run.id)

    assert refused.exit_code == 1
    assert len(refused.stderr.splitlines()) == 1
