"""The cost of noise, against closed forms, another way to work it out, and the laws that it must obey."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.privacy.accounting import delta_of, epsilon_of, noise_for

NOISE, DELTAS, ROUNDS = st.floats(0.3, 50), st.floats(1e-9, 0.1), st.integers(1, 1000)


@given(st.floats(0.01, 20), st.floats(0.5, 20), st.integers(1, 50))
def test_delta_is_the_integral_of_where_one_density_outweighs_the_other(
    epsilon: float, noise: float, rounds: int
) -> None:
    mu = math.sqrt(rounds) / noise
    x = np.linspace(-40, 40 + mu, 400_001)
    one, other = (np.exp(-((x - at) ** 2) / 2) / math.sqrt(2 * math.pi) for at in (mu, 0.0))
    numeric = np.trapezoid(np.maximum(one - math.exp(epsilon) * other, 0), x)

    assert delta_of(epsilon, noise, rounds) == pytest.approx(numeric, rel=1e-3, abs=1e-9)


@given(NOISE, DELTAS, ROUNDS)
def test_the_epsilon_keeps_its_delta_and_hardly_less_would(noise: float, delta: float, rounds: int) -> None:
    epsilon = epsilon_of(delta, noise, rounds)

    assert delta_of(epsilon, noise, rounds) <= delta * (1 + 1e-9)
    if epsilon > 1e-6:
        assert delta_of(epsilon * (1 - 1e-4), noise, rounds) > delta * (1 - 1e-2)


@given(st.floats(0.05, 30), DELTAS, ROUNDS)
def test_the_noise_that_is_found_costs_no_more_than_asked(epsilon: float, delta: float, rounds: int) -> None:
    noise = noise_for(epsilon, delta, rounds)

    assert epsilon_of(delta, noise, rounds) <= epsilon * (1 + 1e-5)


@given(NOISE, DELTAS, ROUNDS)
def test_more_rounds_cost_more_and_more_noise_less(noise: float, delta: float, rounds: int) -> None:
    cost = epsilon_of(delta, noise, rounds)

    assert epsilon_of(delta, noise, rounds + 1) >= cost
    assert epsilon_of(delta, 2 * noise, rounds) <= cost
    assert epsilon_of(delta, noise / 2, 4 * rounds) == pytest.approx(epsilon_of(delta, noise / 4, rounds), rel=1e-4)


def test_without_noise_nothing_is_hidden_and_without_rounds_nothing_is_told() -> None:
    assert epsilon_of(1e-5, 0.0) == math.inf
    assert epsilon_of(1e-5, 0.0, 0) == 0.0
    with pytest.raises(ValueError, match="above 0"):
        noise_for(0.0, 1e-5)
