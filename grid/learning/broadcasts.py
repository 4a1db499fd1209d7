"""Models on their way down: as they are, or their parameters rounded to bfloat16, in half of the bytes.

Rounding is to nearest, ties to even, once a round, at the coordinator, whose own model stays float32. Everybody begins
with the rounded model b, so what is learned is learned on top of b; the server adds it to its own w, as the central
model is kept whole in Philippenko & Dieuleveut 2021, arXiv:2102.12528. Otherwise steps that are smaller than half the
distance of two bfloat16 numbers would be lost, round after round.

Only float32 parameters are rounded; other types, running statistics, counters and control variates stay as they are.
"""

from __future__ import annotations

import numpy as np

from grid.learning.arrays import Array, Buffer, views
from grid.learning.layouts import Role, broadcast_layout, model_layout
from grid.learning.spans import BLOCK, Span, Values, store, widened
from grid.learning.strategy import Exact, Strategy
from grid.learning.tensors import Layout


class Rounding:
    """Models of one strategy in the form that travels, and back. `layout` is the plan's."""

    def __init__(self, strategy: Strategy, layout: Layout, statistics: tuple[str, ...] = ()) -> None:
        self._model = model_layout(layout, strategy, statistics)
        self._wire = broadcast_layout(layout, strategy, statistics)

    def shrink(self, data: memoryview) -> None:
        """The model at the beginning of `data` in the form that travels, in the same place."""
        if self._wire == self._model:
            return
        wire = bytearray(self._wire.size)
        _move(self._model, data[: self._model.size], self._wire, wire)
        data[: len(wire)] = wire

    def widen(self, data: memoryview) -> None:
        """What travelled, at the beginning of `data`, as the model that it stands for, in the same place."""
        if self._wire == self._model:
            return
        wire = bytes(data[: self._wire.size])
        _move(self._wire, wire, self._model, data[: self._model.size])

    def received(self, model: memoryview) -> memoryview:
        """What those who are sent a model begin with; the model itself where it travels as it is."""
        if self._wire == self._model:
            return model
        copy = memoryview(bytearray(model))
        self.shrink(copy)
        self.widen(copy)
        return copy


def base_of(values: Values, span: Span, strategy: Strategy) -> Values:
    """Of the server's own numbers, those that clients began with; the very same array where they travel as they are."""
    if strategy.broadcast == Exact() or span.role is not Role.PARAMETER or span.dtype != "F32":
        return values
    half = np.empty(len(values), "<u2")
    store(values, half, "BF16")
    return widened(half, "BF16")


def _move(layout: Layout, source: Buffer, target_layout: Layout, target: Buffer) -> None:
    ours, theirs = views(layout, source), views(target_layout, target)
    for name, array in ours.items():
        dtypes = layout.by_name[name].spec.dtype, target_layout.by_name[name].spec.dtype
        _convert(array.reshape(-1), theirs[name].reshape(-1), *dtypes)


def _convert(values: Array, target: Array, dtype: str, wanted: str) -> None:
    for begin in range(0, len(values), BLOCK):
        block, place = values[begin : begin + BLOCK], target[begin : begin + BLOCK]
        if dtype == wanted:
            np.copyto(place, block)
        else:
            store(widened(block, dtype), place, wanted)
