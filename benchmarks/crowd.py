"""What a round takes of all but the participants: memory with 10 and 50 nodes. And a node's processor time for a task.

The participants of the memory rows are whole nodes, ten to a process, whose workers give back what they were given:
everything but the learning is real. The memory counted is that of the coordinator, its workers, and a gateway.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import statistics
import threading
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.daemons import gateway, give_dataset, node, scratch
from benchmarks.machine import cpu_seconds, tree, usage
from benchmarks.rounds import EXAMPLES, HUGE, held
from benchmarks.row import Row
from grid.cli.assemble import NodeSettings, open_node
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.transport.serve import running
from grid.worker.port import Job, Progress

FEW, MANY = 10, 50
BOUND = 350.0
"""MB."""

EVERY = 0.05
"""Seconds between two looks at the memory."""


# --- participants ---------------------------------------------------------------------------------


class Echo:
    """A worker that learns nothing: what comes in is what goes out."""

    device = "cpu"

    def __init__(self, size: int) -> None:
        self.inbox = self.outbox = memoryview(bytearray(size))
        self.state = memoryview(bytearray())

    async def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        if verb == "prepare":
            return {"examples": EXAMPLES, "held_out": 0}
        return {"examples": EXAMPLES, "metrics": {"loss": 1.0}, "numbers": {"loss": 1.0}}

    async def close(self) -> None:
        self.inbox = self.outbox = memoryview(b"")


class Echoes:
    """As many such workers as are asked for."""

    async def open(self, job: Job) -> Echo:
        return Echo(job.work().model_bytes)

    def status(self) -> dict[str, Any]:
        return {"taken": 0, "seats": 1, "waiting": 0}

    async def close(self) -> None:
        return


def _crowd(folder: Path, names: list[str], trust: str, report: Connection) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            addresses = []
            for name in names:
                settings = NodeSettings(name, folder / name, port=0, trust=(trust,))
                identity = Identity.load_or_create(folder / name / "identity.key")
                opened = open_node(settings, identity, owners=(), engines=lambda *_: Echoes())
                member = await stack.enter_async_context(opened)
                member.answers(await stack.enter_async_context(running(member.app)))
                stack.callback(member.events.close)
                addresses.append(member.address)
            report.send(addresses)
            await asyncio.Event().wait()

    uvloop.run(main())


@contextmanager
def crowd(folder: Path, count: int, trust: str) -> Iterator[list[str]]:
    """The addresses of so many participants, ten to a process."""
    names = [f"node-{number}" for number in range(count)]
    for name in names:
        give_dataset(folder / name, rows=EXAMPLES)
    context = multiprocessing.get_context("spawn")
    addresses: list[str] = []
    with ExitStack() as stack:
        for start in range(0, count, FEW):
            mine, theirs = context.Pipe()
            arguments = (folder, names[start : start + FEW], trust, theirs)
            process = context.Process(target=_crowd, args=arguments, daemon=True)
            process.start()
            stack.callback(process.join)
            stack.callback(process.terminate)
            addresses += mine.recv()
        yield addresses


# --- memory ---------------------------------------------------------------------------------------


class Watch:
    """Looks at the memory of processes until told to stop; `peak` in MB, shared pages counted once."""

    def __init__(self, *pids: int) -> None:
        self._pids, self._over = pids, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak = 0.0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            try:
                self.peak = max(self.peak, sum(usage(tree(pid)).pss for pid in self._pids))
            except OSError:  # a worker has ended while it was looked at
                continue


def peak(participants: int, rounds: int = 2) -> tuple[float, float]:
    """The most memory, MB, and the seconds of the last round, of rounds with a model of 100 MB."""
    me = Identity.generate()
    with scratch() as folder, ExitStack() as stack:
        listed = stack.enter_context(gateway(folder))
        carol = stack.enter_context(node(folder, "carol", trust=me.id))
        addresses = stack.enter_context(crowd(folder, participants, me.id))
        plan = Plan.mlp(list(HUGE), batch=EXAMPLES, steps=1)
        with Watch(listed.pid, carol.pid) as watch:
            _, inside = uvloop.run(held(me, carol.address, addresses, plan, rounds))
    return watch.peak, inside[-1]


# --- processor time -------------------------------------------------------------------------------


def assignment(rounds: int = 60, warm_up: int = 10) -> float:
    """Processor seconds of a node for an assignment: fetched, one step on 32 rows, sealed, handed in."""
    me, spent = Identity.generate(), list[tuple[float, float]]()
    with scratch() as folder, ExitStack() as stack:
        give_dataset(folder / "alice", rows=EXAMPLES)
        alice = stack.enter_context(node(folder, "alice", trust=me.id, warm=True))
        carol = stack.enter_context(node(folder, "carol", trust=me.id))

        def look() -> None:
            spent.append((time.monotonic(), cpu_seconds(tree(alice.pid))))

        plan = Plan.mlp([64, 10], batch=EXAMPLES, steps=1)
        uvloop.run(held(me, carol.address, [alice.address], plan, warm_up + rounds, look))
    return (spent[-1][1] - spent[warm_up - 1][1]) / rounds


def rows() -> Iterator[Row]:
    """The rows for `python -m benchmarks`."""
    each = statistics.median(assignment() for _ in range(3))
    yield Row(
        "crowd.assignment", "a node's processor time for an assignment of one small step", each * 1000, "ms", most=10
    )
    few, took = peak(FEW)
    what = f"peak memory of all but the participants: {FEW} nodes, 100 MB"
    yield Row("crowd.memory", what, few, "MB", most=BOUND)
    yield Row("crowd.memory.round", "the second of these rounds", took, "s")
    many, took = peak(MANY)
    yield Row("crowd.memory.many", f"the same with {MANY} nodes, of that", many / few, "x", most=1.1)
    yield Row("crowd.memory.many.round", "the second of these rounds", took, "s")
