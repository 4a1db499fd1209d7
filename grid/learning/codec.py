"""Updates made small: what was learned on top of the round's model, in fewer bytes, with the rest kept for next time.

What an encoding leaves out of one update is kept at the node and added to the next (error feedback), so that nothing
is lost for good, only late: Seide et al. 2014, "1-bit stochastic gradient descent"; Karimireddy et al. 2019,
arXiv:1901.09847, Algorithm 1 (EF-SGD): p = delta + e, send C(p), e = p - C(p).

Only parameters are encoded; running statistics, counters and control variates travel as they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.learning.arrays import Array, Buffer, views
from grid.learning.layouts import (
    INDEX,
    INT8,
    SCALE,
    SCALED,
    VALUE,
    Role,
    parameters,
    roles,
    update_layout,
    upload_layout,
)
from grid.learning.spans import Span, sane, spans_of, store, stored, widened
from grid.learning.strategy import Int8, Strategy
from grid.learning.tensors import Layout
from grid.wire.problems import UpdateRefused

Vector = NDArray[np.float32]


class Codec:
    """Encodes and decodes the updates of one strategy. `layout` is the plan's, `statistics` what is not trained."""

    def __init__(self, strategy: Strategy, layout: Layout, statistics: tuple[str, ...] = ()) -> None:
        self._rule = strategy.upload
        self._plain = update_layout(layout, strategy, statistics)
        self._wire = upload_layout(layout, strategy, statistics)
        kinds = roles(self._plain, statistics)
        self._spans = [span for span in spans_of(self._plain, kinds) if span.role is Role.PARAMETER]
        self._others = [spec.name for spec in self._plain.specs if kinds[spec.name] is not Role.PARAMETER]
        self._numbers = parameters(self._plain, statistics)

    def encode(self, before: Buffer, after: Buffer, residual: Vector, target: memoryview) -> None:
        """The update `after` of the model `before` (data sections) into `target`, a data section of the wire layout.

        `residual` float32 (parameters,) is what earlier updates left out; it becomes what this one leaves out.
        """
        wire = views(self._wire, target)
        for name, array in self._copied(after).items():
            np.copyto(wire[name], array)
        for span, place in self._placed():
            residual[place] += widened(stored(after, span), span.dtype) - widened(stored(before, span), span.dtype)
        if isinstance(self._rule, Int8):
            _to_int8(residual, wire[INT8], wire[SCALE])
        else:
            _to_largest(residual, wire[INDEX], wire[VALUE])

    def decode(self, wire: memoryview, before: Buffer, target: memoryview) -> None:
        """The update that an encoded one stands for, on top of the model `before`, into `target`.

        Raises:
            UpdateRefused: no encoder writes such an update.
        """
        parts, plain = views(self._wire, wire), views(self._plain, target)
        delta = self._delta(parts)
        for name in self._others:
            np.copyto(plain[name], parts[name])
        for span, place in self._placed():
            values = widened(stored(before, span), span.dtype) + delta[place]
            store(values.astype(span.wide, copy=False), stored(target, span), span.dtype)

    def _delta(self, parts: dict[str, Array]) -> Vector:
        if isinstance(self._rule, Int8):
            return _from_int8(parts[INT8], parts[SCALE])
        return _from_largest(parts[INDEX], parts[VALUE], self._numbers)

    def _copied(self, data: Buffer) -> dict[str, Array]:
        arrays = views(self._plain, data)
        return {name: arrays[name] for name in self._others}

    def _placed(self) -> list[tuple[Span, slice]]:
        """The spans of parameters, and where each lies among all parameters in a row."""
        placed, begin = [], 0
        for span in self._spans:
            placed.append((span, slice(begin, begin + span.numbers)))
            begin += span.numbers
        return placed


def _to_int8(values: Vector, coded: Array, scales: Array) -> None:
    """Each block of `SCALED` numbers as whole multiples of a 127th of its largest; `values` becomes the difference."""
    for at in range(len(scales)):
        block = values[at * SCALED : (at + 1) * SCALED]
        scales[at] = scale = np.abs(block).max(initial=0.0) / np.float32(127)
        if scale > 0:
            whole = np.rint(block / scale)
            coded[at * SCALED : at * SCALED + len(block)] = whole
            block -= whole * scale
        else:
            coded[at * SCALED : at * SCALED + len(block)] = 0


def _from_int8(coded: Array, scales: Array) -> Vector:
    if not sane(scales) or (scales < 0).any():
        raise UpdateRefused("its scales are not finite, too large, or below zero")
    return np.asarray(coded.astype(np.float32) * np.repeat(scales, SCALED)[: len(coded)], np.float32)


def _to_largest(values: Vector, index: Array, kept: Array) -> None:
    """The numbers that are furthest from zero, by their places; in `values` zeros stay there. arXiv:1809.07599."""
    found = np.sort(np.argpartition(np.abs(values), len(values) - len(index))[len(values) - len(index) :])
    index[:], kept[:] = found, values[found]
    values[found] = 0


def _from_largest(index: Array, kept: Array, numbers: int) -> Vector:
    inside = len(index) == 0 or (index[0] >= 0 and index[-1] < numbers and bool((np.diff(index) > 0).all()))
    if not inside or not sane(kept):
        raise UpdateRefused("its places are not in order, or outside the model, or its numbers are not finite")
    delta = np.zeros(numbers, np.float32)
    delta[index] = kept
    return delta


def residual_of(state: memoryview) -> Any:
    """The residual (float32) that lies in a node's state."""
    return np.frombuffer(state, "<f4")
