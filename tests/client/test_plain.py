"""The grid for notebooks: calls that wait, on a loop of their own, whatever loop the caller is on."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from grid.cli.assemble import _presence
from grid.cli.connect import connect
from grid.client.directory import GatewayDirectory
from grid.client.plain import Loop, PlainGrid
from grid.wire.problems import NoParticipants, RunRefused
from tests.gateway.conftest import gateway_at
from tests.grid_of_nodes import SCIENTIST, ANode, Learner, a_node, numbers, plan_of


class World:
    """A gateway, a coordinator and a node with data, on a loop in another thread."""

    def __init__(self, folder: Path) -> None:
        self.loop, self._stack = Loop(), AsyncExitStack()
        self.gateway, self.coordinator, self.ann = self.loop.run(self._open(folder))

    async def _open(self, folder: Path) -> tuple[str, ANode, ANode]:

        gateway = await self._stack.enter_async_context(gateway_at(folder, clock=time.time))  # type: ignore[arg-type]
        coordinator = await a_node("coordinator", folder / "c", data=False)
        ann = await a_node("ann", folder / "ann", Learner(goal=1.0))
        directory = GatewayDirectory(ann.open.means.calls, gateway)
        await directory.join(_presence(ann.open)._message())
        for node in (coordinator, ann):
            self._stack.push_async_callback(node.stop)
        return gateway, coordinator, ann

    def close(self) -> None:
        self.loop.run(self._stack.aclose())
        self.loop.stop()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def plain(world: World) -> Iterator[PlainGrid]:
    with connect(world.gateway, identity=SCIENTIST) as grid:
        yield grid


async def test_in_a_notebook_whose_loop_runs_every_call_waits_and_answers(plain: PlainGrid, world: World) -> None:
    assert asyncio.get_running_loop().is_running()

    nodes = plain.search("#pulse")
    run = plain.train(plan_of(), "#pulse", rounds=2, coordinator=world.coordinator.address)
    kinds = [event.kind for event in run.watch()]
    result = run.result(progress=False)

    assert [node.id for node in nodes] == ["ann"]
    assert [info.name for info in plain.datasets("#pulse")["ann"]] == ["pulse"]
    assert kinds[-1] == "run-ended"
    assert len(result.history) == 2
    assert run.info().state == "success"
    assert run.stop().state == "success"
    assert (run.skipped, repr(run)) == ((), f"Run({run.id}, 2 rounds)")
    assert numbers(run.checkpoint().initial).tolist() == numbers(result.plan.initial).tolist()


def test_a_result_shows_a_line_for_each_round(
    plain: PlainGrid, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    plain.train(plan_of(), "#pulse", rounds=2, coordinator=world.coordinator.address).result()

    assert [line.split("  ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "round 1/2",
        "round 2/2",
        "success",
    ]


def test_a_notebook_that_comes_back_finds_its_run_with_its_history_and_its_best_round(
    world: World, plain: PlainGrid
) -> None:
    where = world.coordinator.address
    begun = plain.train(plan_of(), "#pulse", rounds=40, coordinator=where, stop_on="loss:2:0.4")
    begun.result(progress=False)
    plain.close()

    with connect(world.gateway, identity=SCIENTIST) as later:
        (listed,) = later.runs(where)
        run = later.run(listed.run, where)
        result, history = run.result(progress=False), run.history

    assert run.id == begun.id
    assert 0 < history.best == result.best_round <= len(history) < 40
    assert all(set(line.by_node) == {"ann"} for line in history)
    assert result.reason in listed.reason


def test_what_the_grid_refuses_is_raised_in_the_callers_thread(plain: PlainGrid, world: World) -> None:
    with pytest.raises(NoParticipants):
        plain.train(plan_of(), "#unicorns")
    world.ann.learner.refuses = NoParticipants("not today")
    with pytest.raises(RunRefused, match="not today"):
        plain.train(plan_of(), "#pulse", coordinator=world.coordinator.address).result(progress=False)

    assert plain.public_key == SCIENTIST.id


def test_a_coordinator_in_this_process_drives_a_run_and_is_gone_with_the_grid(world: World) -> None:
    with connect(world.gateway, identity=SCIENTIST) as plain:
        result = plain.train(plan_of(), "#pulse", rounds=2).result(progress=False)

    assert [line.accepted for line in result.history] == [1, 1]
    assert [thread.name for thread in threading.enumerate()].count("grid") == 1  # the world's own
    plain.close()  # twice is once


WAITING = """
import asyncio
from grid.client.plain import Loop

async def for_ever():
    print("waiting", flush=True)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

loop = Loop()
try:
    loop.run(for_ever())
except KeyboardInterrupt:
    loop.stop()
    print("interrupted", flush=True)
"""

TRAINING = """
import sys
import grid
from grid.learning.plan import Plan

g = grid.connect(sys.argv[1], identity=grid.Identity.from_seed(b"scientist".ljust(32)))
run = g.train(Plan.linear(3, 1, loss="mse"), "#pulse")
for event in run.watch():
    print(event.kind, flush=True)
"""


def test_ctrl_c_cancels_what_is_waited_for() -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGINT)
        said, _ = program.communicate(timeout=10)

    assert said.splitlines() == ["cancelled", "interrupted"]
    assert program.returncode == 0


def test_ctrl_c_in_a_run_ends_the_program_and_its_workers_though_nothing_was_closed(world: World) -> None:
    world.ann.learner.may_go_on.clear()
    command = [sys.executable, "-c", TRAINING, world.gateway]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as program:
        assert program.stdout is not None
        while "round-opened" not in program.stdout.readline():
            assert program.poll() is None
        program.send_signal(signal.SIGINT)
        _, complaint = program.communicate(timeout=10)  # ends when no process holds these pipes any more

    assert "KeyboardInterrupt" in complaint
    assert program.returncode in (1, -signal.SIGINT, 130)
    with pytest.raises(ProcessLookupError):
        os.killpg(program.pid, 0)
