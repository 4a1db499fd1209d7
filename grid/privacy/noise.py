"""Gaussian noise from a cipher's keystream: nobody without the seed can tell it from truly random."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from grid.crypto.masks import Keystream

BLOCK = 16 << 10
"""Numbers drawn at a time, even."""

SECRET = 16
"""Random bytes that a seed has."""


def gaussians(seed: bytes, count: int) -> Iterator[npt.NDArray[np.float64]]:
    """`count` independent standard normal numbers, in blocks, from a seed of 16 random bytes that is used once.

    Source: Box & Muller 1958, "A note on the generation of random normal deviates"; of uniform numbers of 32 bits, so
    that none is further out than 6.8.
    """
    stream, drawn = Keystream(seed), bytearray(4 * BLOCK)
    for begin in range(0, count, BLOCK):
        stream.fill(memoryview(drawn))
        radii, angles = (np.frombuffer(drawn, "<u4").astype(np.float64) + 0.5).reshape(2, -1) / 2**32
        radii = np.sqrt(-2 * np.log(radii))
        both = np.concatenate([radii * np.cos(2 * np.pi * angles), radii * np.sin(2 * np.pi * angles)])
        yield both[: min(BLOCK, count - begin)]


class Draws:
    """Random numbers that nobody can foretell without the seed (16 random bytes, used once), as many as are asked for.

    In float32, since they are for gradients in float32: several times as fast as `gaussians`.
    """

    def __init__(self, seed: bytes) -> None:
        self._stream, self._drawn = Keystream(seed), bytearray(8 * BLOCK)

    def normals(self, count: int) -> npt.NDArray[np.float32]:
        """`count` independent standard normal numbers, by the source of `gaussians`; none further out than 6.8."""
        found = np.empty(count + count % 2, np.float32)
        for begin in range(0, len(found), 2 * BLOCK):
            block = found[begin : begin + 2 * BLOCK]
            radii, angles = self._words(len(block)).reshape(2, -1).astype(np.float32)
            radii += np.float32(0.5)
            radii *= np.float32(2.0**-32)
            np.log(radii, out=radii)
            radii *= np.float32(-2.0)
            np.sqrt(radii, out=radii)
            angles *= np.float32(2 * np.pi / 2**32)
            first, second = np.split(block, 2)
            np.multiply(radii, np.cos(angles), out=first)
            np.multiply(radii, np.sin(angles), out=second)
        return found[:count]

    def chosen(self, count: int, rate: float) -> npt.NDArray[np.intp]:
        """Which of `count` are chosen, each with probability `rate` (within 2^-32) by itself: their numbers, in order.

        A rate of 1 chooses all.
        """
        below = int(rate * 2**32)
        found = [
            begin + np.flatnonzero(self._words(min(2 * BLOCK, count - begin)) < below)
            for begin in range(0, count, 2 * BLOCK)
        ]
        return np.concatenate([np.empty(0, np.intp), *found])

    def below(self, count: int, most: int) -> npt.NDArray[np.int64]:
        """`count` whole numbers from 0 on and below `most` (at most 2^16), each as likely within 2^-48 of itself."""
        found = np.empty(count, np.int64)
        for begin in range(0, count, BLOCK):
            part = found[begin : begin + BLOCK]
            words = self._words(2 * len(part)).astype(np.uint64).reshape(2, -1)
            part[:] = ((words[0] << np.uint64(32)) | words[1]) % np.uint64(most)
        return found

    def _words(self, count: int) -> npt.NDArray[np.uint32]:
        """At most twice `BLOCK` uniform words of 32 bits; overwritten by the next ones."""
        self._stream.fill(memoryview(self._drawn)[: 4 * count])
        return np.frombuffer(self._drawn, "<u4", count)
