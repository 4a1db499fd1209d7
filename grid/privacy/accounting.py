"""What Gaussian noise on sums costs in differential privacy: exact, for rounds in which everybody takes part.

One sum of vectors of L2 norm at most C, with noise of standard deviation z C in each number, is as hard to tell apart
from the sum without one of them as two normal distributions a distance mu = 1/z apart; T of them, mu = sqrt(T)/z.

Source: Dong, Roth, Su 2022, "Gaussian differential privacy", JRSS B 84(1) (composition); Balle & Wang 2018,
arXiv:1805.06530 (delta of an epsilon).
"""

from __future__ import annotations

import math

MOST = 1e6
"""No epsilon and no noise beyond this is looked for."""


def delta_of(epsilon: float, noise: float, rounds: int = 1) -> float:
    """The delta that goes with an epsilon after so many rounds with a noise multiplier `noise` (z) above 0."""
    mu = math.sqrt(rounds) / noise
    far = _tail(epsilon / mu + mu / 2)
    rest = math.exp(epsilon + math.log(far)) if far > 0 else 0.0  # in logarithms: e^epsilon alone may be beyond a float
    return max(0.0, _tail(epsilon / mu - mu / 2) - rest)


def epsilon_of(delta: float, noise: float, rounds: int = 1) -> float:
    """The least epsilon for a delta in (0, 1), rounded up to 1e-6 of itself; infinite where there is no noise."""
    if noise <= 0 or not rounds:
        return math.inf if rounds else 0.0
    if delta_of(0.0, noise, rounds) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while delta_of(high, noise, rounds) > delta:
        low, high = high, 2 * high
        if high > MOST:
            return math.inf
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(middle, noise, rounds) <= delta else (middle, high)
    return high


def noise_for(epsilon: float, delta: float, rounds: int = 1) -> float:
    """The least noise multiplier with which so many rounds cost no more, rounded up to 1e-6 of itself.

    Raises:
        ValueError: epsilon is not above 0, or delta is not in (0, 1).
    """
    if not (epsilon > 0 and 0 < delta < 1):
        raise ValueError("an epsilon above 0 and a delta between 0 and 1")
    low, high = 0.0, 1.0
    while delta_of(epsilon, high, rounds) > delta:
        low, high = high, 2 * high
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if delta_of(epsilon, middle, rounds) <= delta else (middle, high)
    return high


def _tail(x: float) -> float:
    """P(X > x) of a standard normal X."""
    return math.erfc(x / math.sqrt(2)) / 2
