"""The sum of ten updates of 100 MB: with numpy, with torch, and as flwr makes it, of the rate at which a core reads.

Everything lies in mapped pages, as it does in a seat. The sides take turns; rates are of processor time, one thread.
"""

from __future__ import annotations

import mmap
import statistics
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice

import numpy as np
import torch

from benchmarks import flower
from benchmarks.row import Row
from grid.learning import aggregation, torch_sums
from grid.learning.aggregation import AddScaled, WeightedMean
from grid.learning.tensors import Layout, TensorSpec

CLIENTS, NUMBERS, TURNS = 10, 25_000_000, 7
HELD = 3
"""Updates in memory; they are added in turns, so that ten cost no gigabyte."""
LAYOUT = Layout([TensorSpec("w", "F32", (NUMBERS,))])
GIGABYTES = CLIENTS * LAYOUT.size / 1e9


def room() -> memoryview:
    return memoryview(mmap.mmap(-1, LAYOUT.size))


def an_update(seed: int) -> memoryview:
    place = room()
    np.frombuffer(place, np.float32)[:] = np.random.default_rng(seed).random(NUMBERS, np.float32)
    return place


def read(updates: list[memoryview]) -> None:
    """What nothing that looks at every byte can beat."""
    for update in islice(cycle(updates), CLIENTS):
        np.frombuffer(update, np.float32).max()


def folded(updates: list[memoryview], target: memoryview, add_scaled: AddScaled) -> None:
    mean = WeightedMean(LAYOUT, None, target, add_scaled)
    for number, update in enumerate(islice(cycle(updates), CLIENTS)):
        mean.add(update, 100 + number)


def seconds(work: Callable[[], None]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def rows() -> Iterator[Row]:
    """The rows for `python -m benchmarks`."""
    torch.set_num_threads(1)
    updates, target = [an_update(seed) for seed in range(HELD)], room()
    sides: dict[str, Callable[[], None]] = {
        "read": lambda: read(updates),
        "numpy": lambda: folded(updates, target, aggregation.add_scaled),
        "torch": lambda: folded(updates, target, torch_sums.add_scaled),
    }
    took: dict[str, list[float]] = {name: [] for name in sides}
    theirs: list[float] = []
    for turn in range(TURNS + 1):
        for name, work in sides.items():
            took[name].append(seconds(work))
        if turn in {1, TURNS} and (found := flower.aggregate_seconds(CLIENTS, NUMBERS)):
            theirs += found
    rate = {name: GIGABYTES / statistics.median(each[1:]) for name, each in took.items()}
    yield Row("aggregation.read", "one core reads ten updates of 100 MB", rate["read"], "GB/s")
    for name, least in (("torch", 0.5), ("numpy", 0.3)):
        what = f"the weighted mean of them with {name}, of that rate"
        yield Row(f"aggregation.{name}", what, rate[name] / rate["read"], "x", least=least)
    if theirs:
        flwr = GIGABYTES / statistics.median(theirs)
        yield Row("aggregation.flwr", f"flwr {flower.VERSION}'s aggregate_arrayrecords", flwr, "GB/s")
        yield Row("aggregation.peer", "the mean with torch, of flwr's rate", rate["torch"] / flwr, "x", least=4)
