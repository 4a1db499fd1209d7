"""What an audit tells of a training: nothing for chance, more for more, and never more than was true."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.learning.audit import bound, lower_bound, membership_auc, other_labels, other_targets, p_value

COUNTS = st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


@given(COUNTS, st.floats(0, 8), st.floats(0, 1e-3))
def test_less_privacy_makes_the_same_guesses_more_probable(
    counts: tuple[int, int], epsilon: float, delta: float
) -> None:
    guesses, correct = counts
    one = p_value(guesses, guesses, correct, epsilon)
    assert one <= p_value(guesses, guesses, correct, epsilon + 0.5) + 1e-9
    assert one <= p_value(guesses, guesses, correct, epsilon, delta) <= 1


@settings(deadline=None)
@given(COUNTS)
def test_more_correct_guesses_are_a_larger_bound_and_half_of_them_none(counts: tuple[int, int]) -> None:
    guesses, correct = counts
    found = bound(guesses, guesses, correct)
    assert correct == guesses or found <= bound(guesses, guesses, correct + 1)
    assert bound(guesses, guesses, correct, delta=1e-5) <= found
    if correct <= guesses / 2:
        assert found == 0


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_guesses_that_are_all_right_give_the_bound_in_closed_form(count: int) -> None:
    right = 0.05 ** (1 / count)
    assert bound(count, count, count) == pytest.approx(math.log(right / (1 - right)), abs=1e-6)


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_answers_that_are_exactly_so_private_are_seldom_said_to_be_less(epsilon: float) -> None:
    rng, said = np.random.default_rng(3), []
    for _ in range(60):
        inside = rng.random(400) < 0.5
        told = inside ^ (rng.random(400) > 1 / (1 + math.exp(-epsilon)))
        said.append(lower_bound(np.where(told, 0.0, 1.0) + rng.random(400) / 10, inside))
    assert sum(each > epsilon for each in said) <= 6
    assert np.median(said) > epsilon / 4


def test_an_auc_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(0)
    learned, others = rng.integers(0, 9, 30) / 1.0, rng.integers(2, 11, 40) / 1.0
    pairs = [(a < b) + (a == b) / 2 for a in learned for b in others]
    assert membership_auc(learned, others) == pytest.approx(np.mean(pairs))
    assert membership_auc(learned, learned) == 0.5


def test_what_cannot_be_audited_is_refused() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        membership_auc(np.zeros(0), np.zeros(3))
    with pytest.raises(ValueError, match="some of the guesses"):
        p_value(3, 2, 3, 1.0)
    with pytest.raises(ValueError, match="one loss for each"):
        lower_bound(np.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match="one class"):
        other_labels(np.zeros(3, np.int64), 1, np.random.default_rng(0))
    with pytest.raises(ValueError, match="other row"):
        other_targets(np.zeros(1), np.random.default_rng(0))


@given(st.lists(st.integers(0, 4), min_size=2, max_size=50), st.integers(0, 9))
def test_canaries_have_a_label_that_is_not_theirs(labels: list[int], seed: int) -> None:
    target, rng = np.array(labels), np.random.default_rng(seed)
    other = other_labels(target, 5, rng)
    assert (other != target).all()
    assert other.min() >= 0
    assert other.max() < 5
    rows = np.arange(len(labels), dtype=np.float32)
    assert (other_targets(rows, rng) != rows).all()
