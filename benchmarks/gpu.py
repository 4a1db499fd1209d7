"""What a GPU is worth to a node: steps a second in a sandboxed seat with one, beside a seat on the processor.

Both train the same plan on the same data, one after the other; the processor with as many threads as it has cores, up
to eight. Also how long a seat with a GPU takes to open: CUDA is begun in each.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.daemons import scratch
from benchmarks.row import Row
from grid.learning.arrays import layout_of, write_arrays
from grid.learning.plan import Plan
from grid.learning.tensors import header_bytes
from grid.worker.engine import Gpu, IsolationPolicy, Limits, LocalEngine, LocalSeat, TrainJob
from grid.worker.gpus import here

LIMITS = Limits(memory=8 << 30, threads=min(8, os.cpu_count() or 1))
ROWS, CLASSES = 4096, 10
PLANS = {  # name: plan, values of an example, steps on the processor, steps on the GPU
    "small": (lambda: Plan.mlp([64, 128, CLASSES], batch=32), 64, 300, 300),
    "mlp": (lambda: Plan.mlp([784, 4096, 4096, CLASSES], batch=512), 784, 5, 200),
    "cnn": (lambda: Plan.cnn((3, 32, 32), CLASSES, channels=(64, 128), batch=128), 3072, 5, 200),
}


def written(folder: Path, plan: Plan, width: int) -> TrainJob:
    """The job, its two files in `folder`."""
    draw = np.random.default_rng(0)
    data = {"features": draw.random((ROWS, width), np.float32), "target": draw.integers(0, CLASSES, ROWS)}
    layout = layout_of(data)
    body = bytearray(layout.size)
    write_arrays(layout, data, body)
    folder.mkdir()
    (folder / "tensors").write_bytes(header_bytes(layout) + body)
    (folder / "bundle").write_bytes(plan.bundle())
    return TrainJob(folder / "bundle", folder / "tensors", ("features",), "target", limits=LIMITS)


async def a_second(seat: LocalSeat, plan: Plan, steps: int) -> float:
    """Steps a second, the better of two fits; the first warms up."""
    seat.inbox[: plan.layout.size] = plan.initial
    best = 0.0
    for number in range(3):
        began = time.perf_counter()
        await seat.call("fit", round=number, steps=steps)
        best = max(best, steps / (time.perf_counter() - began)) if number else best
    return best


async def measured(folder: Path, gpu: Gpu) -> dict[str, tuple[float, float]]:
    """For each plan, steps a second on the processor and on the GPU; and milliseconds to open a seat on each."""
    (folder / "scratch").mkdir()
    engine = LocalEngine("torch", 2, folder / "scratch", policy=IsolationPolicy.PREFER, gpus=(gpu,), gpu_seats=1)
    await engine.warm()
    found: dict[str, tuple[float, float]] = {}
    for name, (make, width, few, many) in PLANS.items():
        plan = make()
        job = written(folder / name, plan, width)
        times = []
        for _ in range(3):
            began = time.perf_counter()
            on_gpu = await engine.open(job)
            times.append(1000 * (time.perf_counter() - began))
            await on_gpu.close()
        on_gpu = await engine.open(job)
        began = time.perf_counter()
        on_cpu = await engine.open(job)
        found["open"] = 1000 * (time.perf_counter() - began), statistics.median(times)
        found[name] = await a_second(on_cpu, plan, few), await a_second(on_gpu, plan, many)
        await on_gpu.close()
        await on_cpu.close()
    await engine.close()
    return found


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    seen = here(os.environ)
    if not seen.gpus:
        raise SystemExit(f"no GPU: {seen.why}")
    with scratch() as folder:
        found = asyncio.run(measured(folder, seen.gpus[0]))
    print(f"on {seen.gpus[0]}; processor with {LIMITS.threads} threads")
    slow, fast = found.pop("open")
    yield Row("gpu.open_cpu", "a seat without a GPU opens, where torch has CUDA", slow, "ms")
    yield Row("gpu.open", "a seat with a GPU opens: CUDA begun, libraries loaded", fast, "ms")
    for name, (cpu, gpu) in found.items():
        yield Row(f"gpu.{name}_cpu", f"{name}: steps on the processor", cpu, "/s")
        yield Row(f"gpu.{name}", f"{name}: steps on the GPU", gpu, "/s")
        yield Row(f"gpu.{name}_ratio", f"{name}: GPU / processor", gpu / cpu, "x")
