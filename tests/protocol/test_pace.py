from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.pace import LEAST, WINDOW, Arrivals, learned_deadline

rounds = st.lists(
    st.builds(Arrivals, st.lists(st.floats(0.0, 1e4), max_size=20).map(tuple), st.integers(0, 20)), max_size=8
)


def test_the_deadline_is_a_multiple_of_the_time_in_which_nine_in_ten_updates_came() -> None:
    ten = Arrivals(tuple(float(second) for second in range(10, 20)))

    assert learned_deadline([ten], pace=2.0, most=600.0) == 2.0 * 18.0


def test_without_a_pace_or_a_past_it_is_what_the_task_says() -> None:
    assert learned_deadline([Arrivals((3.0,))], pace=0.0, most=600.0) == 600.0
    assert learned_deadline([], pace=2.0, most=600.0) == 600.0


@pytest.mark.parametrize(("missing", "expected"), [(1, 20.0), (2, 600.0)])
def test_a_deadline_that_cut_off_more_than_a_tenth_is_given_up(missing: int, expected: float) -> None:
    past = [Arrivals((10.0,) * (10 - missing), missing)]

    assert learned_deadline(past, pace=2.0, most=600.0) == expected


def test_only_the_newest_rounds_are_remembered() -> None:
    past = [Arrivals((100.0,)), *[Arrivals((5.0,))] * WINDOW]

    assert learned_deadline(past, pace=2.0, most=600.0) == 10.0


@given(rounds, st.floats(0.1, 100.0), st.floats(1.0, 1e5))
def test_it_is_never_longer_than_the_task_allows_and_never_no_time_at_all(
    past: list[Arrivals], pace: float, most: float
) -> None:
    assert LEAST <= learned_deadline(past, pace, most) <= most


@given(rounds, st.integers(1, 5))
def test_whoever_is_missing_never_makes_it_shorter(past: list[Arrivals], more: int) -> None:
    later = [*past[:-1], *(Arrivals(each.seconds, each.missing + more) for each in past[-1:])]

    assert learned_deadline(later, 2.0, 600.0) >= learned_deadline(past, 2.0, 600.0)
