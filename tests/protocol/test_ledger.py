"""What fits into a privacy budget."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from grid.privacy.rdp import ORDERS, epsilon_of, epsilon_of_steps, of_step
from grid.protocol.ledger import NOTHING, Budget, Charge, admit, left, total
from grid.wire.problems import BudgetSpent

BUDGET = Budget("trial", "", 3.0, 1e-5)


def a_run(name: str = "r", rounds: int = 10, noise: float = 8.0) -> Charge:
    return Charge(name, "trial", "ann", of_step(1.0, noise), rounds)


def test_a_run_pays_for_all_its_rounds_up_front() -> None:
    assert epsilon_of(a_run(rounds=10).cost, 1e-5) == pytest.approx(epsilon_of_steps(1.0, 8.0, 10, 1e-5))


def test_what_was_not_used_is_given_back_when_it_is_settled() -> None:
    run = replace(a_run(rounds=10), used=4)

    assert replace(run, state="settled").cost == a_run(rounds=4).cost
    assert replace(run, state="settled", used=0).cost == NOTHING


def test_what_costs_more_than_there_are_numbers_for_is_refused_and_hides_no_other_cost() -> None:
    boundless = Charge("r", "trial", "ann", (math.inf,) * len(ORDERS), 10)

    with pytest.raises(BudgetSpent):
        admit(boundless, [(BUDGET, NOTHING)])
    assert replace(boundless, state="settled").cost == NOTHING
    with pytest.raises(BudgetSpent):
        admit(a_run(), [(BUDGET, replace(boundless, state="settled", used=1).cost)])


def test_runs_add_up_to_less_than_their_epsilons_do() -> None:
    both = total([a_run("a"), a_run("b")])

    assert epsilon_of(both, 1e-5) < 2 * epsilon_of(a_run().cost, 1e-5)
    assert epsilon_of(both, 1e-5) == pytest.approx(epsilon_of_steps(1.0, 8.0, 20, 1e-5))


@given(st.integers(1, 200), st.integers(0, 200))
def test_a_run_is_admitted_exactly_where_it_does_not_overspend(asked: int, spent: int) -> None:
    before = a_run("before", spent).cost

    fits = epsilon_of_steps(1.0, 8.0, asked + spent, 1e-5) <= BUDGET.epsilon
    try:
        admit(a_run(rounds=asked), [(BUDGET, before)])
    except BudgetSpent:
        assert not fits
    else:
        assert fits


def test_it_has_to_fit_into_every_budget_and_hears_which_one_it_does_not() -> None:
    wide, narrow = replace(BUDGET, epsilon=50.0), Budget("trial", "students", 1.0, 1e-5)

    admit(a_run(), [(wide, NOTHING)])
    with pytest.raises(BudgetSpent, match=r"the budget of students on trial is epsilon 1 .* 1 of it is left; with"):
        admit(a_run(), [(wide, NOTHING), (narrow, NOTHING)])


def test_what_is_left_is_never_below_nothing() -> None:
    assert left(BUDGET, NOTHING) == 3.0
    assert 0 < left(BUDGET, a_run(rounds=5).cost) < 3.0
    assert left(BUDGET, a_run(rounds=5000).cost) == 0.0
