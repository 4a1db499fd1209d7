"""Gaussian noise from a cipher's keystream: nobody without the seed can tell it from truly random."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from grid.crypto.masks import Keystream

BLOCK = 16 << 10
"""Numbers drawn at a time, even."""


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
