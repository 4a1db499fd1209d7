"""What steps of noised gradients cost in differential privacy, each on a random part of the records: Renyi orders.

Every step takes each record with probability `rate`, independently (Poisson sampling), adds up vectors of L2 norm at
most C, and adds noise of standard deviation `noise` times C to each number. Two datasets are neighbours if one has one
record more. A curve is what that costs at each of `ORDERS`; curves of steps on the same records add up.

Source: Mironov, Talwar, Zhang 2019, arXiv:1908.10530, section 3.3 (the sampled Gaussian mechanism at whole orders);
Canonne, Kamath, Steinke 2020, arXiv:2004.00010, proposition 12 (epsilon of a curve). It never says less than it costs.
"""

from __future__ import annotations

import math
from functools import lru_cache

ORDERS = (*range(2, 65), *range(72, 129, 8), *range(160, 257, 32), 320, 384, 512, 768, 1024)
"""The orders that a curve is told at: whole numbers above 1."""

LEAST = 1e-6
"""No noise multiplier below this is taken: what it costs soon has no number."""

MOST = 1e6
"""No noise multiplier beyond this is looked for."""

Curve = tuple[float, ...]


@lru_cache(maxsize=256)
def of_step(rate: float, noise: float) -> Curve:
    """What one step costs. `rate` is above 0 and at most 1, `noise` (the noise multiplier) above 0."""
    if rate == 1:
        return tuple(order / (2 * noise**2) for order in ORDERS)
    return tuple(_log_moment(rate, noise, order) / (order - 1) for order in ORDERS)


def of_answers(epsilon: float, answers: int) -> Curve:
    """What so many answers cost, each of them under differential privacy at `epsilon` and delta 0.

    Source: Bun & Steinke 2016, arXiv:1605.02065, proposition 3.3; no divergence is greater than epsilon itself.
    """
    return tuple(answers * min(epsilon, order * epsilon**2 / 2) for order in ORDERS)


def epsilon_of(curve: Curve, delta: float) -> float:
    """The least epsilon that follows from a curve for a delta in (0, 1)."""
    return min(_epsilon(order, cost, delta) for order, cost in zip(ORDERS, curve, strict=True))


def epsilon_of_steps(rate: float, noise: float, steps: int, delta: float) -> float:
    """What so many steps cost; 0 for none."""
    return epsilon_of(tuple(steps * cost for cost in of_step(rate, noise)), delta) if steps else 0.0


def noise_for_steps(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """The least noise multiplier with which so many steps cost no more, rounded up to 1e-4 of itself.

    Raises:
        ValueError: no noise is enough, or the numbers are out of bounds.
    """
    if not (epsilon > 0 and 0 < delta < 1 and 0 < rate <= 1 and steps > 0):
        raise ValueError("an epsilon above 0, a delta between 0 and 1, a rate above 0 and at most 1, steps above 0")
    low, high = 0.0, 1.0
    while epsilon_of_steps(rate, high, steps, delta) > epsilon:
        low, high = high, 2 * high
        if high > MOST:
            raise ValueError(f"no noise makes {steps} steps cost only epsilon {epsilon:g} at delta {delta:g}")
    while high - low > 1e-4 * high:
        middle = (low + high) / 2
        enough = epsilon_of_steps(rate, middle, steps, delta) <= epsilon
        low, high = (low, middle) if enough else (middle, high)
    return high


def _log_moment(rate: float, noise: float, order: int) -> float:
    """The logarithm of sum_k C(order, k) (1 - q)^(order - k) q^k exp((k^2 - k) / (2 noise^2))."""
    present, absent = math.log(rate), math.log1p(-rate)
    terms = [
        math.lgamma(order + 1) - math.lgamma(k + 1) - math.lgamma(order - k + 1)
        + k * present + (order - k) * absent + k * (k - 1) / (2 * noise**2)
        for k in range(order + 1)
    ]  # fmt: skip
    largest = max(terms)
    # The sum of the binomial alone is 1: rounding may take it below, and a cost below 0 there is none.
    return max(0.0, largest + math.log(math.fsum(math.exp(term - largest) for term in terms)))


def _epsilon(order: int, cost: float, delta: float) -> float:
    if delta**2 + math.expm1(-cost) >= 0:
        return 0.0
    return max(0.0, cost + math.log1p(-1 / order) - (math.log(delta) + math.log(order)) / (order - 1))
