"""A wish becomes noise: as much as it needs over all rounds of a run, and what the sheet says of it."""

from __future__ import annotations

import pytest

from grid.learning.plan import Plan
from grid.learning.private import Privacy, made_private
from grid.learning.recipe import Dp
from grid.learning.sheet import sheet
from grid.learning.strategy import PRESETS, check_recipe
from grid.privacy.rdp import epsilon_of_steps
from grid.wire.problems import PlanRefused, StrategyRefused

PLAN = Plan.mlp([5, 8, 3], epochs=2)


def test_the_noise_keeps_the_epsilon_over_all_rounds_by_the_accountant() -> None:
    dp = made_private(PLAN, Privacy(3.0, delta=1e-6, clip=0.5, rate=0.05), rounds=7).recipe.dp

    assert dp is not None
    assert (dp.clip, dp.rate, dp.delta) == (0.5, 0.05, 1e-6)
    spent = epsilon_of_steps(0.05, dp.noise, 7 * 2 * 20, 1e-6)
    assert 2.99 < spent <= 3.0
    assert dp.epsilon(7 * 40) == spent


def test_steps_of_the_plan_count_where_it_says_steps() -> None:
    few, many = (made_private(PLAN.with_(steps=steps), Privacy(1.0), 3).recipe.dp for steps in (5, 500))

    assert few is not None
    assert many is not None
    assert few.noise < many.noise


def test_noise_that_is_told_is_taken_as_it_is() -> None:
    assert made_private(PLAN, Dp(1.0, 2.0), 5).recipe.dp == Dp(1.0, 2.0)


def test_a_private_plan_is_another_plan_and_survives_its_bundle() -> None:
    private = made_private(PLAN, Privacy(3.0), 2)

    assert private.digest != PLAN.digest
    assert Plan.from_bundle(private.bundle()).recipe == private.recipe


@pytest.mark.parametrize(
    "wish", [Privacy(0.0), Privacy(3.0, delta=0.0), Privacy(3.0, rate=2.0), Privacy(3.0, clip=0.0)]
)
def test_a_wish_out_of_bounds_is_refused(wish: Privacy) -> None:
    with pytest.raises(PlanRefused, match="dp"):
        made_private(PLAN, wish, 2)


def test_the_sheet_says_what_it_costs() -> None:
    private = made_private(PLAN, Privacy(3.0), 7)

    told = dict(sheet(private, 1000, 7).rows())

    assert told["private"].startswith("records clipped at 1, noise of ")
    assert told["private"].endswith("epsilon 3 after 7 rounds at delta 1e-05")
    assert told["each round"] == "20 steps, each of a random 0.1 of the records"
    assert "after 1, " in sheet(private).private
    assert ("private" in repr(private)) > ("private" in repr(PLAN))


def test_a_strategy_that_asks_for_losses_is_refused() -> None:
    check_recipe(PRESETS["q-fedavg"], PLAN.recipe)
    with pytest.raises(StrategyRefused, match="does not noise"):
        check_recipe(PRESETS["q-fedavg"], made_private(PLAN, Privacy(3.0), 2).recipe)
