"""How much a training told of single records: membership by losses, and a lower bound on epsilon from one run.

Sources: Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", 2023 (arXiv:2305.08846), theorem 5.2
and appendix D; Yeom et al., 2018 (arXiv:1709.01604), for membership by a threshold on the loss.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)
"""Of the canaries, the shares that are guessed: those that look most like in and most like out. See `lower_bound`."""

_MOST = 64.0  # no bound above it is told
_HALVINGS = 50

Numbers = NDArray[np.floating[Any]]


def membership_auc(learned: Numbers, others: Numbers) -> float:
    """The probability that a row it learned from has a smaller loss than another one; a tie counts half.

    `learned` (n,) and `others` (m,) are losses. The statistic of Mann and Whitney over n m: 0.5 is chance.

    Raises:
        ValueError: one of them is empty, or holds what is not a number.
    """
    if not len(learned) or not len(others) or np.isnan(learned).any() or np.isnan(others).any():
        raise ValueError("an AUC takes losses of both kinds, and numbers only")
    ordered = np.sort(others)
    above = len(ordered) - np.searchsorted(ordered, learned, side="right")
    not_below = len(ordered) - np.searchsorted(ordered, learned, side="left")
    return float((above.sum() + not_below.sum()) / (2 * len(learned) * len(ordered)))


def p_value(canaries: int, guesses: int, correct: int, epsilon: float, delta: float = 0.0) -> float:
    """At most how probable so many `correct` guesses are, if the training is (`epsilon`, `delta`)-private.

    Of `canaries`, each in or out by a fair coin, `guesses` are guessed and the others passed over.

    Raises:
        ValueError: not 0 <= correct <= guesses <= canaries.
    """
    if not 0 <= correct <= guesses <= canaries:
        raise ValueError("correct guesses are some of the guesses, and those some of the canaries")
    right = 1 / (1 + math.exp(-epsilon))
    chances = [_binomial(guesses, each, right) for each in range(guesses + 1)]
    beyond, below, alpha = math.fsum(chances[correct:]), 0.0, 0.0
    for less in range(1, correct + 1):
        below += chances[correct - less]
        alpha = max(alpha, below / less)
    return min(1.0, beyond + 2 * canaries * delta * alpha)


def bound(canaries: int, guesses: int, correct: int, delta: float = 0.0, risk: float = 0.05) -> float:
    """The largest epsilon that so many correct guesses rule out, wrong with probability `risk` at most; 0 for none."""
    if p_value(canaries, guesses, correct, 0.0, delta) >= risk:
        return 0.0
    low, high = 0.0, _MOST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if p_value(canaries, guesses, correct, middle, delta) < risk:
            low = middle
        else:
            high = middle
    return low


def lower_bound(losses: Numbers, inside: NDArray[np.bool_], delta: float = 0.0, risk: float = 0.05) -> float:
    """A lower bound on epsilon from losses (m,) of canaries, of which those `inside` (m,) were learned from.

    For each of `SHARES`, that share of the canaries is guessed: the half with the smallest losses in, that with the
    largest out. The best bound is told, each at its part of the `risk` (Bonferroni).

    Raises:
        ValueError: they are not one loss for each canary, or no numbers.
    """
    if losses.shape != inside.shape or losses.ndim != 1 or np.isnan(losses).any():
        raise ValueError("an audit takes one loss for each canary, and numbers only")
    order, count, best = inside[np.argsort(losses, kind="stable")], len(losses), 0.0
    for share in SHARES:
        half = int(count * share / 2)
        correct = int(order[:half].sum() + (~order[count - half :]).sum())
        best = max(best, bound(count, 2 * half, correct, delta, risk / len(SHARES)))
    return best


def other_labels(target: NDArray[Any], classes: int, rng: np.random.Generator) -> NDArray[Any]:
    """For class numbers (n,) below `classes`, as many others, each drawn from those that it is not.

    Raises:
        ValueError: there are fewer than two classes.
    """
    if classes < 2:
        raise ValueError("there is no other label where there is one class")
    return ((target + rng.integers(1, classes, target.shape)) % classes).astype(target.dtype)


def other_targets(target: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    """For targets (n, ...), those of other rows, each drawn at random.

    Raises:
        ValueError: there are fewer than two rows.
    """
    if len(target) < 2:
        raise ValueError("there is no other row")
    rows = np.arange(len(target))
    return np.asarray(target[(rows + rng.integers(1, len(target), len(target))) % len(target)])


def _binomial(trials: int, hits: int, chance: float) -> float:
    """P[Binomial(trials, chance) = hits], with 0 < chance <= 1."""
    misses = trials - hits
    if chance == 1.0:
        return float(misses == 0)
    ways = math.lgamma(trials + 1) - math.lgamma(hits + 1) - math.lgamma(misses + 1)
    return math.exp(ways + hits * math.log(chance) + misses * math.log1p(-chance))
