"""How soon a job begins: from an assignment to the first training step, in a worker whose process is warm.

By the engine alone: a seat is forked, confined, given plan and data, and has done one step. In a run: from the event
that opens a round to the report of the first step, model fetched and opened, by the clock that both daemons share.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.daemons import TAG, gateway, give_dataset, node, scratch
from benchmarks.row import Row
from grid.cli.connect import aconnect
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.learning.arrays import layout_of, write_arrays
from grid.learning.plan import Plan
from grid.learning.state import tensor_views
from grid.learning.tensors import header_bytes
from grid.learning.training import Trainer, warm_up
from grid.wire.node import PART_EVENTS
from grid.wire.runs import After
from grid.worker.engine import IsolationPolicy, LocalEngine, TrainJob
from grid.worker.port import Progress

BOUND = 300.0
REPEATS = 15
RUNS = 5
ROWS = 2000


def plan() -> Plan:
    """A small network, 10,000 parameters."""
    return Plan.mlp([64, 128, 10], batch=32)


def arrays() -> dict[str, Any]:
    """Random examples."""
    draw = np.random.default_rng(0)
    return {"features": draw.random((ROWS, 64), np.float32), "target": draw.integers(0, 10, ROWS)}


def written(folder: Path, chosen: Plan) -> TrainJob:
    """The job, its two files in `folder`."""
    data = arrays()
    layout = layout_of(data)
    body = bytearray(layout.size)
    write_arrays(layout, data, body)
    (folder / "tensors").write_bytes(header_bytes(layout) + body)
    (folder / "bundle").write_bytes(chosen.bundle())
    return TrainJob(folder / "bundle", folder / "tensors", ("features",), "target")


def moments(heard: list[float]) -> Progress:
    """Notes when progress is told of."""
    return lambda _: heard.append(time.perf_counter())


async def first_steps(folder: Path) -> tuple[list[float], list[float]]:
    """Milliseconds to the first step: from asking a warm engine for a seat, and in a seat that holds the job."""
    chosen = plan()
    job, fresh, held = written(folder, chosen), list[float](), list[float]()
    (folder / "scratch").mkdir()
    engine = LocalEngine("torch", 1, folder / "scratch", policy=IsolationPolicy.PREFER)
    await engine.warm()
    for _ in range(REPEATS):
        heard: list[float] = []
        began = time.perf_counter()
        seat = await engine.open(job)
        await seat.call("prepare")
        seat.inbox[:] = chosen.initial
        await seat.call("fit", moments(heard), round=1)
        fresh.append(1000 * (heard[0] - began))
        again: list[float] = []
        began = time.perf_counter()
        await seat.call("fit", moments(again), round=2)
        held.append(1000 * (again[0] - began))
        await seat.close()
    await engine.close()
    return fresh, held


def floor() -> list[float]:
    """Milliseconds to load the same plan and data and take one step, in this process."""
    warm_up()
    bundle, data, times = bytes(plan().bundle()), arrays(), list[float]()
    for _ in range(REPEATS):
        began = time.perf_counter()
        chosen = Plan.from_bundle(memoryview(bundle))
        Trainer(chosen, data).fit(tensor_views(chosen.layout, bytearray(chosen.initial)), steps=1)
        times.append(1000 * (time.perf_counter() - began))
    return times


async def in_runs(folder: Path) -> list[float]:
    """Milliseconds from a round's opening at its coordinator to the node's report of the first step."""
    me, times = Identity.from_seed(b"b" * 32), []
    with gateway(folder) as here, node(folder, "alice", gateways=(here.address,), trust=me.id, warm=True) as alice:
        owner, peer = Identity.load(folder / "alice" / "owner.key"), Identity.load(folder / "alice" / "identity.key")
        async with aconnect(here.address, identity=me) as grid, open_http(Egress(allow_private=True)) as http:
            for _ in range(200):
                if await grid.search(TAG):
                    break
                await asyncio.sleep(0.05)
            for _ in range(RUNS):
                run = await grid.train(plan(), TAG, rounds=1)
                opened = [event.at async for event in run.watch() if event.kind == "round-opened"]
                calls = Calls(http, identity=owner)
                noted = await calls.call(alice.address, PART_EVENTS, query=After(), peer=peer.public, run=run.id)
                (first,) = [event.at for event in noted.events if event.kind == "progress"]
                times.append(1000 * (first - opened[0]))
    return times


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    with scratch() as folder:
        fresh, held = (statistics.median(times) for times in asyncio.run(first_steps(folder)))
    plain = statistics.median(floor())
    yield Row("workers.first_step", "warm worker: seat asked for until first step is done", fresh, "ms", most=BOUND)
    yield Row("workers.next_round", "the same in a seat that holds plan and data", held, "ms")
    yield Row("workers.floor", "plan and data loaded and one step done in a process with torch", plain, "ms")
    yield Row("workers.over_floor", "first step in a fresh seat / that floor", fresh / plain, "x")
    with scratch() as folder:
        give_dataset(folder / "alice", rows=ROWS)
        whole = statistics.median(asyncio.run(in_runs(folder)))
    yield Row("workers.in_a_run", "warm node: round opened until first step is noted", whole, "ms", most=BOUND)
