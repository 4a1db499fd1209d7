"""Labels by randomized response: how often they are right, and that none is likelier than epsilon allows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from grid.privacy.rdp import ORDERS, epsilon_of, of_answers
from grid.privacy.responses import told

N = 60_000


@pytest.mark.parametrize(("kinds", "epsilon"), [(2, 0.3), (2, 2.0), (5, 1.0), (10, 3.0)])
def test_labels_are_right_as_often_as_epsilon_allows(kinds: int, epsilon: float) -> None:
    right = 1 / (1 + (kinds - 1) * math.exp(-epsilon))

    heard = told(np.full(N, 1), kinds, epsilon, bytes(range(16)))

    shares = np.bincount(heard, minlength=kinds) / N
    assert abs(shares[1] - right) < 5 * math.sqrt(right * (1 - right) / N)
    others = np.delete(shares, 1)
    assert np.all(abs(others - (1 - right) / (kinds - 1)) < 5 * math.sqrt(right * (1 - right) / N))


def test_a_large_epsilon_tells_the_truth_and_a_seed_the_same_again() -> None:
    labels = np.arange(1000) % 7

    assert np.mean(told(labels, 7, 40.0, bytes(16)) == labels) > 0.999
    assert np.array_equal(told(labels, 7, 1.0, bytes(16)), told(labels, 7, 1.0, bytes(16)))


@pytest.mark.parametrize(("kinds", "epsilon"), [(1, 1.0), (1 << 17, 1.0), (2, 0.0), (2, -1.0)])
def test_what_cannot_be_hidden_is_refused(kinds: int, epsilon: float) -> None:
    with pytest.raises(ValueError, match="kinds of labels"):
        told(np.zeros(3, np.int64), kinds, epsilon, bytes(16))


@pytest.mark.parametrize(("epsilon", "answers"), [(0.1, 1), (0.1, 100), (1.0, 10), (3.0, 2)])
def test_answers_cost_no_more_than_their_epsilons_together(epsilon: float, answers: int) -> None:
    """And never less than what the exact divergence of two such answers says."""
    curve = of_answers(epsilon, answers)

    assert epsilon_of(curve, 1e-5) <= epsilon * answers * 1.02 + 0.01
    for order, cost in zip(ORDERS, curve, strict=True):
        far = (order - 1) * epsilon  # the logarithm of p e^far + (1 - p) e^-far, for p the right one's probability
        exact = far - math.log1p(math.exp(-epsilon)) + math.log1p(math.exp(-epsilon - 2 * far))
        assert cost >= answers * exact / (order - 1) * (1 - 1e-9)
