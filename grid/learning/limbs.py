"""Wide numbers in a ring of 2^32: sums under masks that lose nothing.

A number is kept as a whole multiple of 2^-40, and that in five limbs of 20 bits. Up to 4096 vectors add up without one
limb running over into the next, so that the limbs of the sum are the sum of the limbs.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from grid.learning.layouts import LIMBS
from grid.learning.masking import Ring
from grid.wire.problems import UpdateRefused

BITS, FRACTION = 20, 40
PARTIES = 1 << (32 - BITS)
"""Vectors that fit one sum."""

LARGEST = 2.0 ** (LIMBS * BITS - FRACTION - 1)
"""Numbers are smaller than this, 2^59."""

_LOW = 3 * BITS  # bits of the three limbs that are taken together
_MASK = (1 << BITS) - 1
_OFFSET = 1 << (2 * BITS - 1)

Numbers = npt.NDArray[np.float64]


def to_limbs(numbers: Numbers) -> Ring:
    """float64 (n,) to uint32 (5 n,): the limbs of each number one after the other, the lowest first.

    Raises:
        UpdateRefused: a number is not finite, or too large.
    """
    if not (np.abs(numbers) < LARGEST).all():
        raise UpdateRefused(f"a number that is to be summed under masks is not finite, or not below {LARGEST:.2g}")
    whole = np.rint(np.ldexp(numbers, FRACTION))
    high = np.rint(np.ldexp(whole, -_LOW))  # the nearer of two, so that what is left is exact
    low = (whole - np.ldexp(high, _LOW)).astype(np.int64)
    above = high.astype(np.int64) + (low >> _LOW) + _OFFSET
    limbs = [low, low >> BITS, low >> 2 * BITS, above, above >> BITS]
    return (np.stack(limbs, axis=1) & _MASK).astype(np.uint32).ravel()


def from_limbs(total: Ring, count: int) -> Numbers:
    """The sum of `count` vectors, uint32 (5 n,), as float64 (n,)."""
    if not 1 <= count <= PARTIES:
        raise ValueError(f"a sum of {count} vectors, where 1 to {PARTIES} fit")
    limbs = total.reshape(-1, LIMBS).astype(np.int64).T
    second = limbs[1] + (limbs[0] >> BITS)
    third = limbs[2] + (second >> BITS)
    low = (limbs[0] & _MASK) | (second & _MASK) << BITS | (third & _MASK) << 2 * BITS
    high = limbs[3] + (limbs[4] << BITS) + (third >> BITS) - count * _OFFSET
    half = low >> (_LOW - 1)  # the nearer of two: what is small stays exact where it is below zero, too
    low, high = low - (half << _LOW), high + half
    return np.asarray(np.ldexp(high.astype(np.float64), _LOW - FRACTION) + np.ldexp(low.astype(np.float64), -FRACTION))
