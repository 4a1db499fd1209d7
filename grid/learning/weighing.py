"""What each update weighs in a mean, and how far the model then goes towards that mean.

Every mean-type rule is the same two steps, which is why one accumulator serves them all. With weights u_k

    m = sum_k u_k w_k / sum_k u_k        the mean of the models (or of deltas, where deltas travel)
    delta = reach * (m - w)              the step that is given to the server optimizer

and each rule has its own u_k and reach, from sums of a few numbers. b_k is n_k, or 1 for uniform means.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from grid.learning.spans import LARGEST
from grid.learning.strategy import Asynchronous, Buffered, Nova, QFair, Strategy
from grid.wire.problems import UpdateRefused

LEAST_LOSS = 1e-10
"""A loss below it counts as this: q-FedAvg takes losses to the power q - 1. As in the authors' code."""

MOST = 1e6
"""No loss and no normaliser beyond this is believed: whatever has the largest would have it all."""


class Told(NamedTuple):
    """What is known of an update beside its numbers.

    `examples` n_k; `loss` F_k(w^t), that of the model before training on the training examples, for q-FedAvg;
    `normaliser` ||a_k||_1, for FedNova; `staleness`: how many steps the model went on since this update began.
    """

    examples: float
    loss: float | None = None
    normaliser: float | None = None
    staleness: int = 0


class Weighing:
    """The sums that one round's reach is made of. `weigh` each update once, in any order."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self._base = self._weight = self._normalisers = self._curvature = 0.0

    def plain(self, told: Told) -> float:
        """b_k: what statistics weigh, whatever the rule."""
        return 1.0 if getattr(self._strategy.aggregation, "weight", "examples") == "uniform" else told.examples

    def weigh(self, told: Told, distance: float = 0.0) -> float:
        """u_k; `distance` is ||w_k - w||^2 over the parameters, which q-FedAvg asks for.

        Raises:
            UpdateRefused: the rule needs a number that was not told, or cannot believe it.
        """
        base = self.plain(told)
        weight, normaliser, curvature = base, 0.0, 0.0
        match self._strategy:
            case Strategy(client=Nova()):
                normaliser = _believed("normaliser", told.normaliser)
                weight = base / normaliser
            case Strategy(aggregation=QFair() as rule):
                weight, curvature = _fair(rule, _believed("loss", told.loss), distance)
            case Strategy(timing=Buffered(staleness=exponent) | Asynchronous(staleness=exponent)):
                weight = base * staleness_weight(told.staleness, exponent)
        if not (0 < weight < LARGEST and curvature < math.inf):
            raise UpdateRefused(f"a weight of {weight}; it must be above 0 and finite")
        self._base += base
        self._weight += weight
        self._normalisers += base * normaliser
        self._curvature += curvature
        return weight

    @property
    def reach(self) -> float:
        """How much of m - w is the step. 1 for FedAvg.

        FedNova, arXiv:2007.07481, section 4: tau_eff sum_k p_k (w_k - w) / ||a_k||_1, tau_eff = sum_k p_k ||a_k||_1.
        q-FedAvg, Algorithm 2: sum_k delta_k / sum_k h_k.
        FedBuff, arXiv:2106.06639, Algorithm 1: the weighted deltas are divided by their number, not by their weights.
        FedAsync, arXiv:1903.03934, Algorithm 1: alpha_t = alpha s(staleness).
        """
        match self._strategy:
            case Strategy(client=Nova()):
                return (self._normalisers / self._base) * (self._weight / self._base)
            case Strategy(aggregation=QFair()):
                return self._weight / self._curvature
            case Strategy(timing=Buffered()):
                return self._weight / self._base
            case Strategy(timing=Asynchronous(alpha=alpha)):
                return alpha * self._weight / self._base
            case _:
                return 1.0


def staleness_weight(staleness: int, exponent: float) -> float:
    """(1 + s)^-a: polynomial staleness of arXiv:1903.03934, section 5; FedBuff's 1/sqrt(1 + s) for a = 1/2."""
    if staleness < 0:
        raise UpdateRefused(f"a staleness of {staleness}")
    return math.pow(1 + staleness, -exponent)


def _fair(rule: QFair, loss: float, distance: float) -> tuple[float, float]:
    """Weight and curvature: delta_k = F^q L (w - w_k), h_k = q F^(q-1) ||L (w - w_k)||^2 + L F^q (Algorithm 2)."""
    weight = rule.lipschitz * math.pow(loss, rule.q)
    return weight, rule.q * math.pow(loss, rule.q - 1) * rule.lipschitz**2 * distance + weight


def _believed(what: str, number: float | None) -> float:
    if number is None:
        raise UpdateRefused(f"this strategy needs the {what} of each update, and this one has none")
    if not 0 <= number <= MOST:
        raise UpdateRefused(f"a {what} of {number} is not believable")
    return max(number, LEAST_LOSS)
