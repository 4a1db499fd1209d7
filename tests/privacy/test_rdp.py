"""The accountant of steps: against published figures, closed forms, and itself."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.privacy import accounting
from grid.privacy.rdp import ORDERS, epsilon_of_steps, noise_for_steps, of_step


@pytest.mark.parametrize(
    ("rate", "noise", "steps", "delta", "by_orders", "by_losses"),
    [
        (0.01, 1.0, 1000, 1e-5, 2.1078, 1.828),  # dp-accounting 0.6.0: its Renyi orders where whole, and its PLD
        (0.1, 2.0, 500, 1e-5, 6.0895, 5.556),
        (1.0, 5.0, 100, 1e-6, 11.8554, 11.00),
    ],
)
def test_it_is_what_other_accountants_say_and_never_less_than_the_best_of_them(
    rate: float, noise: float, steps: int, delta: float, by_orders: float, by_losses: float
) -> None:
    found = epsilon_of_steps(rate, noise, steps, delta)

    assert found == pytest.approx(by_orders, abs=1e-3)
    assert found > by_losses


def test_order_two_is_the_closed_form() -> None:
    rate, noise = 0.05, 1.5

    assert of_step(rate, noise)[ORDERS.index(2)] == pytest.approx(math.log1p(rate**2 * math.expm1(1 / noise**2)))


@settings(deadline=None)
@given(st.floats(0.001, 1), st.floats(0.5, 20), st.integers(1, 3000))
def test_a_part_costs_no_more_than_all_more_steps_no_less_and_more_noise_no_more(
    rate: float, noise: float, steps: int
) -> None:
    found = epsilon_of_steps(rate, noise, steps, 1e-5)

    assert 0 <= found <= epsilon_of_steps(1.0, noise, steps, 1e-5) + 1e-9
    assert found <= epsilon_of_steps(rate, noise, steps + 1, 1e-5)
    assert found >= epsilon_of_steps(rate, noise * 1.1, steps, 1e-5) - 1e-9


@given(st.floats(0.5, 20), st.integers(1, 300))
def test_without_sampling_it_is_never_below_the_exact_cost(noise: float, steps: int) -> None:
    assert epsilon_of_steps(1.0, noise, steps, 1e-5) >= accounting.epsilon_of(1e-5, noise, steps)


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 10), st.floats(0.01, 1), st.integers(1, 2000))
def test_the_noise_for_an_epsilon_keeps_it_and_hardly_less_would(epsilon: float, rate: float, steps: int) -> None:
    noise = noise_for_steps(epsilon, 1e-5, rate, steps)

    assert epsilon_of_steps(rate, noise, steps, 1e-5) <= epsilon
    assert epsilon_of_steps(rate, noise * 0.999, steps, 1e-5) > epsilon


def test_no_steps_cost_nothing_and_nonsense_is_refused() -> None:
    assert epsilon_of_steps(0.1, 1.0, 0, 1e-5) == 0.0
    for wish in [(0.0, 1e-5, 0.1, 10), (1.0, 0.0, 0.1, 10), (1.0, 1e-5, 0.0, 10), (1.0, 1e-5, 0.1, 0)]:
        with pytest.raises(ValueError, match="above 0"):
            noise_for_steps(*wish)
    with pytest.raises(ValueError, match="no noise"):
        noise_for_steps(1e-6, 1e-30, 1.0, 10**6)
