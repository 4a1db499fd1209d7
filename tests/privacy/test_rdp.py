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


# By dp-accounting 0.6.0: `RdpAccountant(ORDERS)` with so many Poisson-sampled Gaussian events, to six decimals.
BY_ORACLE = [
    (0.001, 0.6, 50, 1e-05, 2.270671),
    (0.001, 0.6, 50, 1e-08, 3.997609),
    (0.001, 1, 400, 1e-05, 0.670503),
    (0.001, 1, 400, 1e-08, 1.246150),
    (0.001, 1.5, 1000, 1e-05, 0.254402),
    (0.001, 1.5, 1000, 1e-08, 0.492601),
    (0.001, 4, 5000, 1e-05, 0.058880),
    (0.001, 4, 5000, 1e-08, 0.095046),
    (0.001, 12, 300, 1e-05, 0.004579),
    (0.001, 12, 300, 1e-08, 0.011332),
    (0.01, 0.6, 50, 1e-05, 5.016739),
    (0.01, 0.6, 50, 1e-08, 8.407157),
    (0.01, 1, 400, 1e-05, 1.571567),
    (0.01, 1, 400, 1e-08, 2.558389),
    (0.01, 1.5, 1000, 1e-05, 1.012953),
    (0.01, 1.5, 1000, 1e-08, 1.410884),
    (0.01, 4, 5000, 1e-05, 0.712354),
    (0.01, 4, 5000, 1e-08, 0.976294),
    (0.01, 12, 300, 1e-05, 0.046667),
    (0.01, 12, 300, 1e-08, 0.070740),
    (0.05, 0.6, 50, 1e-05, 11.977358),
    (0.05, 0.6, 50, 1e-08, 18.885113),
    (0.05, 1, 400, 1e-05, 7.654369),
    (0.05, 1, 400, 1e-08, 9.956954),
    (0.05, 1.5, 1000, 1e-05, 6.070014),
    (0.05, 1.5, 1000, 1e-08, 7.842337),
    (0.05, 4, 5000, 1e-05, 4.210937),
    (0.05, 4, 5000, 1e-08, 5.457980),
    (0.05, 12, 300, 1e-05, 0.266873),
    (0.05, 12, 300, 1e-08, 0.377883),
    (0.2, 0.6, 50, 1e-05, 33.730755),
    (0.2, 0.6, 50, 1e-08, 40.638511),
    (0.2, 1, 400, 1e-05, 36.715519),
    (0.2, 1, 400, 1e-08, 43.623274),
    (0.2, 1.5, 1000, 1e-05, 32.264705),
    (0.2, 1.5, 1000, 1e-08, 39.172461),
    (0.2, 4, 5000, 1e-05, 23.008913),
    (0.2, 4, 5000, 1e-08, 27.782386),
    (0.2, 12, 300, 1e-05, 1.196280),
    (0.2, 12, 300, 1e-08, 1.613891),
    (1, 0.6, 50, 1e-05, 149.015520),
    (1, 0.6, 50, 1e-08, 155.923275),
    (1, 1, 400, 1e-05, 410.126631),
    (1, 1, 400, 1e-08, 417.034386),
    (1, 1.5, 1000, 1e-05, 454.571076),
    (1, 1.5, 1000, 1e-08, 461.478831),
    (1, 4, 5000, 1e-05, 322.626631),
    (1, 4, 5000, 1e-08, 329.534386),
    (1, 12, 300, 1e-05, 7.254528),
    (1, 12, 300, 1e-08, 9.188000),
]


@pytest.mark.parametrize(("rate", "noise", "steps", "delta", "epsilon"), BY_ORACLE)
def test_it_tells_what_dp_accounting_tells_of_the_same_orders(
    rate: float, noise: float, steps: int, delta: float, epsilon: float
) -> None:
    assert epsilon_of_steps(rate, noise, steps, delta) == pytest.approx(epsilon, rel=0, abs=1e-6)


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
