"""The mean of client models, folded in as they arrive."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from grid.learning.arrays import Buffer
from grid.learning.layouts import Role, roles
from grid.learning.spans import BLOCK, LARGEST, Block, Span, Values, sane, spans_of, store, stored, widened
from grid.learning.tensors import Layout
from grid.wire.problems import UpdateRefused

PLAINLY: Mapping[Role, float] = {}

AddScaled = Callable[[Values, Values, float], None]
"""total += factor * values, in place: one-dimensional, of one length and one float type."""


def add_scaled(total: Values, values: Values, factor: float) -> None:
    """The sum with numpy alone: block by block, so that the products stay in the processor's cache."""
    product = np.empty(min(BLOCK, len(total)), total.dtype)
    for start in range(0, len(total), BLOCK):
        block, part = total[start : start + BLOCK], values[start : start + BLOCK]
        if factor != 1.0:
            part = np.multiply(part, factor, out=product[: len(block)])
        np.add(block, part, out=block)


def check_update(layout: Layout, spans: Iterable[Span], update: Buffer) -> None:
    """Refuse a data section that would spoil what is made of it.

    Raises:
        UpdateRefused: another length than the layout's, or a number that is NaN, infinite or beyond 1e15.
    """
    check_length(layout, update)
    for span in spans:
        values = stored(update, span)
        if span.is_float and not all(sane(widened(values[place], span.dtype)) for place in span.blocks()):
            raise UpdateRefused(f"tensor {_culprit(layout, update)!r} has numbers that are not finite or too large")


def check_length(layout: Layout, update: Buffer) -> None:
    """Refuse what is not as long as the layout says."""
    if memoryview(update).nbytes != layout.size:
        raise UpdateRefused(f"{memoryview(update).nbytes} bytes where the model has {layout.size}")


def _culprit(layout: Layout, update: Buffer) -> str:
    for slot in layout.slots:
        (span,) = spans_of(Layout([slot.spec]), {slot.spec.name: Role.PARAMETER}) or (None,)
        if span and span.is_float and not sane(widened(stored(update, span, slot.begin), span.dtype)):
            return slot.spec.name
    return "?"


class WeightedMean:
    """Average client models as they arrive, each weighted by the examples it learned from.

    Holds one accumulator whatever the number of clients: float32, float64 for F64 tensors; it lies in `into`, a data
    section, where the types allow it. Whole numbers and booleans are counters and flags, which have no mean: the
    largest is kept. Weights are taken relative to the first, so the mean of one model is that model bit for bit.
    `add_scaled` does the arithmetic; engines that have torch give a quicker one, the same but for rounding.

    Source: McMahan et al. 2017, arXiv:1602.05629, Algorithm 1: sum_k (n_k / n) w_k.
    """

    def __init__(
        self,
        layout: Layout,
        spans: tuple[Span, ...] | None = None,
        into: memoryview | None = None,
        add_scaled: AddScaled = add_scaled,
    ) -> None:
        self.layout, self._add_scaled = layout, add_scaled
        self.spans = spans_of(layout, roles(layout)) if spans is None else spans
        self._sums = [_room(span, into) for span in self.spans]
        self._first: dict[Role, float] = {}
        self._total: dict[Role, float] = dict.fromkeys(Role, 0.0)

    @property
    def empty(self) -> bool:
        """Whether nothing was added yet."""
        return not self._first

    def add(self, update: Buffer, weight: float, others: Mapping[Role, float] = PLAINLY) -> None:
        """Fold in the data section of one model; `weight` n_k > 0 is what it learned from, in examples.

        `others` are weights of tensors in certain roles, where they differ.

        Raises:
            UpdateRefused: another length than the layout's, or a weight that is not positive and finite.
        """
        check_length(self.layout, update)
        weights = {role: others.get(role, weight) for role in Role}
        if not all(0 < each < LARGEST for each in weights.values()):
            raise UpdateRefused(f"a weight of {min(weights.values())}; it must be above 0 and finite")
        if self.empty:
            self._first = weights
            for total, span in zip(self._sums, self.spans, strict=True):
                np.copyto(total, widened(stored(update, span), span.dtype))
        else:
            for total, span in zip(self._sums, self.spans, strict=True):
                self._fold(total, stored(update, span), span, weights[span.role] / self._first[span.role])
        for role, each in weights.items():
            self._total[role] += each

    def _fold(self, total: Values, values: Values, span: Span, factor: float) -> None:
        if not span.is_float:
            np.maximum(total, values, out=total)
        elif values.dtype == total.dtype:
            self._add_scaled(total, values, factor)
        else:
            for place in span.blocks():
                self._add_scaled(total[place], widened(values[place], span.dtype), factor)

    def blocks(self) -> Iterator[Block]:
        """The mean, piece by piece, in scratch that is used again for the next.

        Raises:
            UpdateRefused: there is no update yet.
        """
        if self.empty:
            raise UpdateRefused("the mean of no updates")
        for total, span in zip(self._sums, self.spans, strict=True):
            scratch = np.empty(min(BLOCK, span.numbers), total.dtype)
            divisor = self._total[span.role] / self._first[span.role]
            for place in span.blocks():
                values = scratch[: place.stop - place.start]
                if span.is_float:
                    np.divide(total[place], divisor, out=values)
                else:
                    np.copyto(values, total[place])
                yield Block(span, place, values)

    def result_into(self, model: bytearray | memoryview) -> None:
        """Write the mean to `model`, a data section of the layout; unless that is where the sum lies, more may follow.

        Raises:
            UpdateRefused: there is no update yet.
        """
        for span, place, values in self.blocks():
            store(values, stored(model, span)[place], span.dtype)


def _room(span: Span, into: memoryview | None) -> Values:
    if into is not None and np.dtype(span.wide).itemsize * span.numbers == span.end - span.begin:
        return stored(into, span)
    return np.empty(span.numbers, span.wide)
