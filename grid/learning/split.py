"""Which examples train and which are held out to measure: the same at every round, whoever asks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]


def split(examples: int, held_out: float, seed: int = 0) -> tuple[Indices, Indices]:
    """Row numbers to train on and row numbers held out, each sorted; `held_out` is the share of the latter.

    At least one row is held out where `held_out` is above 0 and there are two rows.
    """
    if not 0 <= held_out < 1:
        raise ValueError("held_out must be from 0 to below 1")
    count = round(examples * held_out)
    if held_out and examples > 1:
        count = min(max(count, 1), examples - 1)
    order = np.random.default_rng(seed).permutation(examples)
    return np.sort(order[count:]), np.sort(order[:count])
