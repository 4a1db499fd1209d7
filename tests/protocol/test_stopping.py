"""The rule by which a run has learned enough."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.stopping import judge, reason, stopping
from grid.wire.problems import RunRefused
from grid.wire.runs import Stopping

RULES = st.builds(
    Stopping, st.just("loss"), st.sampled_from(["min", "max"]), st.integers(1, 6), st.sampled_from([0.0, 0.5, 2.0])
)
VALUES = st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(math.nan)), max_size=30)


def rounds(values: list[float]) -> list[tuple[int, float]]:
    return list(enumerate(values, 1))


def test_a_metric_that_gets_no_better_is_enough_and_the_best_round_is_known() -> None:
    rule = Stopping("accuracy", "max", patience=2)

    for values, best, over in (
        ([], 0, False),
        ([0.5, 0.6], 2, False),
        ([0.5, 0.7, 0.6], 2, False),
        ([0.5, 0.7, 0.6, 0.7], 2, True),
        ([0.5, 0.7, 0.6, 0.6, 0.9], 5, True),  # better at last, and still enough
    ):
        verdict = judge(rule, rounds(values))
        assert (verdict.best, verdict.over) == (best, over), values


def test_a_small_gain_is_none() -> None:
    rule = Stopping("loss", "min", patience=2, min_delta=0.1)

    assert judge(rule, rounds([1.0, 0.95, 0.91])).over
    assert not judge(rule, rounds([1.0, 0.95, 0.85])).over


def test_the_reason_names_the_round() -> None:
    rule = Stopping("loss", patience=2)

    assert reason(rule, judge(rule, rounds([0.5, 0.25, 1.0, 1.0]))) == "loss was best in round 2 (0.25), 2 rounds ago"
    assert reason(rule, judge(rule, rounds([math.nan] * 2))) == "loss could not be measured in 2 rounds"


@given(RULES, VALUES)
def test_no_round_is_better_than_the_best_by_more_than_the_least_gain(rule: Stopping, values: list[float]) -> None:
    best = judge(rule, rounds(values)).best
    numbers = [value for value in values if not math.isnan(value)]

    assert (best == 0) == (not numbers)
    if best:
        sign = 1 if rule.mode == "max" else -1
        assert max(sign * (value - values[best - 1]) for value in numbers) <= rule.min_delta


@given(RULES, VALUES, VALUES)
def test_enough_stays_enough(rule: Stopping, values: list[float], more: list[float]) -> None:
    assert judge(rule, rounds(values)).over <= judge(rule, rounds(values + more)).over


@given(RULES, VALUES)
def test_it_is_not_over_before_patience_is_and_is_when_all_that_time_was_no_better(
    rule: Stopping, values: list[float]
) -> None:
    verdict = judge(rule, rounds(values))

    assert not verdict.over or len(values) >= rule.patience
    assert (verdict.since >= rule.patience) <= verdict.over


@given(RULES, VALUES)
def test_less_of_a_loss_is_more_of_its_negative(rule: Stopping, values: list[float]) -> None:
    mirrored = Stopping(rule.metric, "max" if rule.mode == "min" else "min", rule.patience, rule.min_delta)

    there, back = judge(rule, rounds(values)), judge(mirrored, rounds([-value for value in values]))
    assert (there.best, there.since, there.over) == (back.best, back.since, back.over)


def test_a_rule_is_said_in_words() -> None:
    assert stopping("accuracy:5") == Stopping("accuracy", "max", 5)
    assert stopping("loss") == Stopping("loss", "min")
    assert stopping("mse:3:0.5") == Stopping("mse", "min", 3, 0.5)
    for words in ("", "loss:0", "loss:x", "loss:3:-1", "loss:3:nan", "loss:3:4:5"):
        with pytest.raises(RunRefused, match="say METRIC:PATIENCE"):
            stopping(words)
