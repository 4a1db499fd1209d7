"""Stretches of equal numbers in a data section, and their values in the type that sums are made in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grid.learning.arrays import NUMPY_TYPES, Buffer
from grid.learning.layouts import Role
from grid.learning.tensors import FLOATS, ITEM_BYTES, Layout

Values = NDArray[Any]

BLOCK = 1 << 17  # numbers; two blocks of float32 and one of scratch stay in the cache of one core
LARGEST = 1e15  # no parameter is beyond it, and a sum over any number of nodes stays finite

_WIDE = {"F16": "<f4", "BF16": "<f4"}


class Span(NamedTuple):
    """Neighbouring tensors of one dtype and role, worked on as one: bytes `begin` to `end`, from tensor `first` on."""

    first: str
    dtype: str
    role: Role
    begin: int
    end: int

    @property
    def numbers(self) -> int:
        """How many numbers."""
        return (self.end - self.begin) // ITEM_BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether its numbers have a mean. Counters and flags have none."""
        return self.dtype in FLOATS

    @property
    def wide(self) -> str:
        """The numpy type that its sums are made in."""
        return _WIDE.get(self.dtype, NUMPY_TYPES[self.dtype])

    def blocks(self, most: int = BLOCK) -> Iterator[slice]:
        """The span in pieces, in order."""
        for start in range(0, self.numbers, most):
            yield slice(start, min(start + most, self.numbers))


class Block(NamedTuple):
    """A piece of a span: its values in the wide type, to be changed at will."""

    span: Span
    place: slice
    values: Values


def spans_of(layout: Layout, roles: Mapping[str, Role]) -> tuple[Span, ...]:
    """The spans of a layout, in the order of its bytes."""
    spans: list[Span] = []
    for slot in layout.slots:
        kind = (slot.spec.dtype, roles[slot.spec.name])
        if not slot.spec.size:
            continue
        if spans and kind == (spans[-1].dtype, spans[-1].role):
            spans[-1] = spans[-1]._replace(end=slot.end)
        else:
            spans.append(Span(slot.spec.name, *kind, slot.begin, slot.end))
    return tuple(spans)


def stored(data: Buffer, span: Span, begin: int | None = None) -> Values:
    """A span's numbers where they lie, as they are stored; `begin` where they begin elsewhere."""
    offset = span.begin if begin is None else begin
    return np.ndarray((span.numbers,), NUMPY_TYPES[span.dtype], buffer=data, offset=offset)


def widened(values: Values, dtype: str) -> Values:
    """Stored values in the wide type: without a copy, but for F16 and BF16."""
    if dtype == "BF16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    return values.astype(np.float32) if dtype == "F16" else values


def store(values: Values, target: Values, dtype: str) -> None:
    """Wide values back into stored ones, rounded to nearest, ties to even, as torch does."""
    if dtype == "BF16":
        bits = values.view(np.uint32)
        upper = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
        none = np.isnan(values)
        if none.any():  # the sum above would carry one into its sign
            upper[none] = 0x7FC0
        np.copyto(target, upper)
    else:
        np.copyto(target, values, casting="same_kind")


def sane(values: Values) -> bool:
    """No NaN, infinity or giant: comparisons with NaN are false."""
    return not values.size or bool(values.max() <= LARGEST and values.min() >= -LARGEST)
