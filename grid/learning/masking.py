"""Vectors under masks: quantised into a ring, where masks cancel in the sum and nothing else can be seen.

A vector of n numbers takes 4 n bytes. Numbers are clipped to [-range, range] by the node itself; each sum of up to
`parties` vectors fits the ring of 2^32, so nothing wraps.

Source: Bonawitz et al. 2017, ePrint 2017/281, section 4 (masks) ; stochastic rounding, so that the sum has no bias.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import numpy.typing as npt

from grid.crypto.masks import Keystream

Ring = npt.NDArray[np.uint32]
Numbers = npt.NDArray[np.float32]

BLOCK = 32 << 10
"""Numbers handled at a time: 128 KiB, which stay in the processor's cache."""

STREAMS = 64
"""Masks put on at a time."""


@dataclass(frozen=True)
class Quantiser:
    """Numbers in [-range, range] as whole ones, so that a sum over `parties` fits 32 bits.

    The error of a sum of m vectors is less than m steps, that of their mean less than one: `step` = 2 range / levels.
    """

    range_: float
    parties: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.range_) and self.range_ > 0 and 1 <= self.parties <= 1 << 16):
            raise ValueError("a quantiser needs a range above 0, and 1 to 65536 parties")

    @property
    def levels(self) -> int:
        """The largest whole number that one party sends."""
        return (2**32 - 1) // self.parties

    @property
    def step(self) -> float:
        """What one level stands for."""
        return 2 * self.range_ / self.levels

    def quantise(self, numbers: Numbers, rng: np.random.Generator) -> Ring:
        """float32 (n,) to uint32 (n,), clipped and stochastically rounded.

        Raises:
            ValueError: a number is not finite.
        """
        out = np.empty(len(numbers), np.uint32)
        for begin in range(0, len(numbers), BLOCK):
            block = numbers[begin : begin + BLOCK].astype(np.float64)
            if not np.isfinite(block).all():
                raise ValueError("a number is not finite")
            np.clip(block, -self.range_, self.range_, out=block)
            block += self.range_
            block /= self.step
            block += rng.random(len(block))
            np.minimum(np.floor(block, out=block), self.levels, out=block)
            out[begin : begin + BLOCK] = block
        return out

    def mean(self, total: Ring, count: int) -> npt.NDArray[np.float64]:
        """The mean of the `count` vectors in a sum: uint32 (n,) to float64 (n,)."""
        if not 1 <= count <= self.parties:
            raise ValueError(f"a sum of {count} vectors, where 1 to {self.parties} fit")
        return total.astype(np.float64) * (self.step / count) - self.range_


def mask(vector: Ring, added: Iterable[bytes], subtracted: Iterable[bytes] = ()) -> None:
    """Add the keystreams of some seeds (16 bytes each) to a vector, and subtract others', in place, modulo 2^32."""
    for seeds, apply in ((added, np.add), (subtracted, np.subtract)):
        rest = iter(seeds)
        while streams := [Keystream(seed) for seed in islice(rest, STREAMS)]:
            _apply(vector, streams, apply)


def _apply(vector: Ring, streams: Sequence[Keystream], apply: np.ufunc) -> None:
    """All streams on one block before the next: it stays in the cache meanwhile."""
    drawn = np.empty(BLOCK, "<u4")
    written = drawn.data.cast("B")
    for begin in range(0, len(vector), BLOCK):
        block = vector[begin : begin + BLOCK]
        piece, target = drawn[: len(block)], written[: 4 * len(block)]
        for stream in streams:
            stream.fill(target)
            apply(block, piece, out=block)
