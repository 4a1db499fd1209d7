"""The mean of client models, folded in as they arrive."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grid.learning.arrays import NUMPY_TYPES, Buffer
from grid.learning.tensors import FLOATS, ITEM_BYTES, Layout, Slot
from grid.wire.problems import UpdateRefused

BLOCK = 128 << 10  # bytes; update, accumulator and product of a block stay in the cache
LARGEST = 1e15  # no parameter is beyond it, and a sum over any number of nodes stays finite


class _Run(NamedTuple):
    """Neighbouring tensors of one dtype, worked on as one: bytes `begin` to `end` of an update."""

    dtype: str
    begin: int
    end: int


class WeightedMean:
    """Average client models as they arrive, each weighted by the examples it learned from.

    Holds one accumulator whatever the number of clients: float32, float64 for F64 tensors. Whole numbers and
    booleans are counters and flags, which have no mean: the largest is kept. Weights are taken relative to the
    first, so the mean of one model is that model bit for bit.

    Source: McMahan et al. 2017, arXiv:1602.05629, Algorithm 1: sum_k (n_k / n) w_k.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.weight = 0.0
        self._first = 0.0
        self._runs = _runs(layout)
        self._sums: list[NDArray[Any]] = []  # made with the first update

    def check(self, update: Buffer) -> None:
        """Refuse a data section that would spoil the mean.

        Raises:
            UpdateRefused: another length than the layout's, or a number that is NaN, infinite or beyond 1e15.
        """
        if memoryview(update).nbytes != self.layout.size:
            raise UpdateRefused(f"{memoryview(update).nbytes} bytes where the model has {self.layout.size}")
        for run in self._runs:
            values = _values(update, run)
            step = BLOCK // values.itemsize
            if run.dtype not in FLOATS:
                continue
            for start in range(0, len(values), step):
                if not _sane(_widened(values[start : start + step], run.dtype)):
                    raise UpdateRefused(
                        f"tensor {self._culprit(update)!r} has numbers that are not finite or too large"
                    )

    def add(self, update: Buffer, weight: float) -> None:
        """Fold in the data section of one model; `weight` n_k > 0 is what it learned from, in examples.

        Raises:
            UpdateRefused: another length than the layout's, or a weight that is not positive and finite.
        """
        if memoryview(update).nbytes != self.layout.size:
            raise UpdateRefused(f"{memoryview(update).nbytes} bytes where the model has {self.layout.size}")
        if not 0 < weight < LARGEST:
            raise UpdateRefused(f"a weight of {weight}; it must be above 0")
        if not self._sums:
            self._first = weight
            self._sums = [_copied(_values(update, run), run.dtype) for run in self._runs]
        else:
            for total, run in zip(self._sums, self._runs, strict=True):
                _fold(total, _values(update, run), run.dtype, weight / self._first)
        self.weight += weight

    def result_into(self, model: bytearray | memoryview) -> None:
        """Write the mean to `model`, a data section of the layout; more updates may follow.

        Raises:
            UpdateRefused: there is no update yet.
        """
        if not self._sums:
            raise UpdateRefused("the mean of no updates")
        for total, run in zip(self._sums, self._runs, strict=True):
            _write(total, _values(model, run), run.dtype, self.weight / self._first)

    def _culprit(self, update: Buffer) -> str:
        for slot in self.layout.slots:
            run = _run(slot)
            if run.dtype in FLOATS and not _sane(_widened(_values(update, run), run.dtype)):
                return slot.spec.name
        return "?"


def _run(slot: Slot) -> _Run:
    return _Run(slot.spec.dtype, slot.begin, slot.end)


def _runs(layout: Layout) -> list[_Run]:
    runs: list[_Run] = []
    for slot in layout.slots:
        if runs and runs[-1].dtype == slot.spec.dtype:
            runs[-1] = runs[-1]._replace(end=slot.end)
        elif slot.spec.size:
            runs.append(_run(slot))
    return runs


def _values(data: Buffer, run: _Run) -> NDArray[Any]:
    count = (run.end - run.begin) // ITEM_BYTES[run.dtype]
    return np.ndarray((count,), NUMPY_TYPES[run.dtype], buffer=data, offset=run.begin)


def _widened(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Values as the accumulator's type: without a copy for F32 and F64."""
    if dtype == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32) if dtype == "F16" else values


def _sane(values: NDArray[Any]) -> bool:
    """No NaN, infinity or giant: comparisons with NaN are false."""
    return not values.size or bool(values.max() <= LARGEST and values.min() >= -LARGEST)


def _copied(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    widened = _widened(values, dtype)
    return widened.copy() if widened is values else widened


def _fold(total: NDArray[Any], values: NDArray[Any], dtype: str, factor: float) -> None:
    if dtype not in FLOATS:
        np.maximum(total, values, out=total)
        return
    step = BLOCK // total.itemsize
    product = np.empty(min(step, len(total)), total.dtype)
    for start in range(0, len(total), step):
        block = total[start : start + step]
        part = product[: len(block)]
        np.multiply(_widened(values[start : start + step], dtype), factor, out=part)
        np.add(block, part, out=block)


def _write(total: NDArray[Any], target: NDArray[Any], dtype: str, divisor: float) -> None:
    if dtype not in FLOATS:
        np.copyto(target, total)
    elif dtype == "BF16":
        mean = np.divide(total, divisor, dtype=total.dtype).view(np.uint32)
        # round to nearest, ties to even, as torch does
        np.copyto(target, ((mean + 0x7FFF + ((mean >> 16) & 1)) >> 16).astype(np.uint16))
    else:
        np.divide(total, divisor, out=target, casting="same_kind")
