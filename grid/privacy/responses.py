"""Labels that are told under differential privacy: the right one most of the time, else any of the others.

Whatever a model has learned, and from whomever, a label so told is e^epsilon times as likely under one model as under
another at most. So each costs `epsilon` of every record that the model may have learned from.

Source: Kairouz, Bonawitz, Ramage 2016, arXiv:1602.07387, section 4 (k-ary randomized response).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from grid.privacy.noise import Draws

MARGIN = 2.0**-32
"""By so much less the right label is told than it might be: more than what a drawn number is off by."""

MOST_LABELS = 1 << 16
"""Labels to choose from, at most."""


def told(labels: npt.NDArray[np.int64], kinds: int, epsilon: float, seed: bytes) -> npt.NDArray[np.int64]:
    """What is told of labels (n,), each of 0 to `kinds` - 1; `seed` is 16 random bytes, used once.

    Raises:
        ValueError: fewer than two kinds, or more than `MOST_LABELS`; an epsilon that is not above 0.
    """
    if not 2 <= kinds <= MOST_LABELS or not epsilon > 0:
        raise ValueError(f"{kinds} kinds of labels, at epsilon {epsilon}")
    right = 1 / (1 + (kinds - 1) * math.exp(-epsilon))
    draws, found = Draws(seed), np.asarray(labels, np.int64).copy()
    others = (found + 1 + draws.below(len(found), kinds - 1)) % kinds
    kept = draws.chosen(len(found), max(0.0, right - MARGIN))
    others[kept] = found[kept]
    return others
