"""Chance that is computed, not stored: what befalls node i in its turn t is a function of (seed, i, t).

So fifteen million nodes have a fate each that takes no memory, and the same scenario gives the same figures, in
whatever order its events are played. The numbers are SplitMix64 (Steele, Lea, Flood 2014) over those keys: good
enough to draw lots, nothing to build secrets on.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from grid.simulation.scenario import Scenario

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Purpose(IntEnum):
    """What a number is drawn for: each has its own stream."""

    DRAW = 1
    CHECK_IN = 2
    PACE = 3
    PACE_TOO = 4
    LOST = 5
    LOST_AT = 6
    REJECTED = 7
    HEARS = 8
    EXAMPLES = 9
    JOINS = 10


class Fate(NamedTuple):
    """What befalls one node that is drawn. Seconds; `vanishes` is after so much training, infinite if it does not."""

    node: int
    checks_in: float
    trains: float
    vanishes: float
    rejected: bool
    hears: bool
    examples: int


def fractions(seed: int, purpose: Purpose, ids: Ids, turn: int) -> Floats:
    """Numbers between 0 and 1, both left out: one for each id, float64 (n,)."""
    key = _mix(_mix(seed * _GOLDEN + purpose) + turn * _GOLDEN)
    bits = (ids.astype(np.uint64) + np.uint64(1)) * np.uint64(_GOLDEN) + np.full(len(ids), key, np.uint64)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    fraction: Floats = ((bits >> np.uint64(12)).astype(np.float64) + 0.5) / 2.0**52
    return fraction


def _mix(word: int) -> int:
    word = ((word & _MASK) ^ ((word & _MASK) >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB & _MASK
    return word ^ (word >> 31)


def paces(s: Scenario, ids: Ids) -> Floats:
    """Seconds that each node trains, float64 (n,): its own for good, so a slow one is slow again."""
    if s.times == "fixed":
        return np.full(len(ids), s.median)
    first = fractions(s.seed, Purpose.PACE, ids, 0)
    if s.times == "pareto":
        heavy: Floats = s.median * (2.0 * first) ** (-1.0 / s.shape)
        return heavy
    second = fractions(s.seed, Purpose.PACE_TOO, ids, 0)
    normal = np.sqrt(-2.0 * np.log(first)) * np.cos(2.0 * np.pi * second)  # Box and Muller 1958
    light: Floats = s.median * np.exp(s.shape * normal)
    return light


def fates(s: Scenario, ids: Ids, turn: int) -> list[Fate]:
    """What befalls these nodes, drawn in this turn."""

    def drawn(purpose: Purpose) -> Floats:
        return fractions(s.seed, purpose, ids, turn)

    trains = paces(s, ids)
    lost = drawn(Purpose.LOST) < s.lost
    columns: tuple[NDArray[Any], ...] = (
        ids,
        -s.check_in * np.log(drawn(Purpose.CHECK_IN)),
        trains,
        np.where(lost, drawn(Purpose.LOST_AT) * trains, np.inf),
        drawn(Purpose.REJECTED) < s.rejected,
        drawn(Purpose.HEARS) < s.hears,
        # 20 to 200 examples, a node's own for good
        (20 * 10.0 ** fractions(s.seed, Purpose.EXAMPLES, ids, 0)).astype(np.int64),
    )
    return list(map(Fate, *(column.tolist() for column in columns)))
