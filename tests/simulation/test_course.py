from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from grid.simulation.course import simulate
from grid.simulation.figures import Figures, ratios
from grid.simulation.scenario import SCENARIOS, Scenario

CALM = Scenario(population=500, rounds=4, goal=40, drawn=40, quorum=30)
(BONAWITZ,) = SCENARIOS["bonawitz"]
OVER_SELECTED, BUFFERED, EVERYBODY = SCENARIOS["papaya"]


def settled(f: Figures) -> int:
    """All that became of those who were drawn."""
    return f.counted + f.late + f.lost + f.slow + f.rejected + f.stopped + f.under_way


def test_where_nothing_happens_every_update_is_counted() -> None:
    f = simulate(CALM)

    assert (f.completed, f.invalid, f.runs) == (4, 0, 1)
    assert f.drawn == f.counted == 160
    assert f.bytes_wasted == f.work_wasted == 0.0
    assert (f.bytes_down, f.bytes_up) == (160e6, 160e6)
    assert len(f.round_seconds) == 4


def test_the_goal_of_bonawitz_is_met_in_every_round_though_one_in_ten_is_lost() -> None:
    f = simulate(replace(BONAWITZ, population=20_000))

    assert (f.completed, f.invalid) == (20, 0)
    assert set(f.counted_at_close) == {300}
    assert abs(f.lost / f.drawn - 0.1) < 0.02
    assert max(f.round_seconds) < BONAWITZ.deadline / 2
    assert f.late > 0  # they train to their end, and are told so by the rules of the round
    assert f.joined > 0


def test_without_drawing_more_than_wanted_a_round_waits_for_its_slowest() -> None:
    modest = replace(OVER_SELECTED, population=10_000, rounds=3, goal=200, drawn=260, quorum=100)

    over, everybody = simulate(modest), simulate(replace(modest, drawn=200))

    assert everybody.seconds > 3 * over.seconds
    assert over.late > 0
    assert over.work_wasted > everybody.work_wasted


def test_buffered_the_slow_hold_up_nobody_and_count_by_their_staleness() -> None:
    f = simulate(replace(BUFFERED, population=10_000, rounds=40, goal=20, drawn=260, quorum=10))

    assert (f.completed, f.invalid) == (40, 0)
    assert set(f.counted_at_close) == {20}
    assert f.counted == 800
    assert f.under_way == 260
    assert f.late == 0
    # thirteen models are made while one node trains: 1 / sqrt(14) of what is stale, all of what is fresh
    assert 0.25 < f.worth / f.counted < 0.6


def test_buffered_takes_less_time_than_synchronous_for_as_many_updates_where_times_are_heavy_tailed() -> None:
    modest = replace(
        OVER_SELECTED, population=10_000, rounds=5, goal=200, drawn=260, quorum=100, times="pareto", shape=1.1
    )
    synchronous = simulate(modest)
    buffered = simulate(replace(modest, mode="buffered", rounds=50, goal=20, quorum=10))

    found = ratios(synchronous, buffered)

    assert found["time for one update"] > 1.5
    assert found["bytes for one update"] > 1.0
    assert "time for the loss" not in found


def test_a_round_that_comes_to_nothing_ends_its_run_and_another_takes_the_rounds_that_are_left() -> None:
    f = simulate(replace(CALM, rounds=10, lost=0.25))

    assert f.invalid > 0
    assert f.completed + f.invalid == 10
    assert f.invalid <= f.runs <= f.invalid + 1
    assert settled(f) == f.drawn


def test_nodes_that_hear_of_the_end_stop_and_others_come_late() -> None:
    some_are_left = replace(CALM, drawn=60, rounds=3)

    deaf, hearing = simulate(some_are_left), simulate(replace(some_are_left, hears=1.0))

    assert (deaf.stopped, hearing.late) == (0, 0)
    assert deaf.late > 0
    assert hearing.stopped > 0
    assert hearing.work_wasted < deaf.work_wasted


def test_a_node_slower_than_the_deadline_gives_up() -> None:
    f = simulate(replace(CALM, times="fixed", median=700.0, rounds=1))

    assert (f.slow, f.counted, f.invalid) == (40, 0, 1)


def test_updates_that_cannot_be_counted_are_wasted() -> None:
    f = simulate(replace(CALM, rejected=0.1))

    assert f.rejected > 0
    assert f.bytes_wasted == f.rejected * 2e6
    assert settled(f) == f.drawn


def test_with_fewer_nodes_than_the_quorum_it_waits_until_they_are_back() -> None:
    f = simulate(replace(CALM, population=40, lost=0.2, rounds=3, away=3_000.0, quorum=20))

    assert f.completed == 3
    assert f.seconds > 300.0


@pytest.mark.parametrize("mode", ["synchronous", "buffered"])
def test_the_same_scenario_gives_the_same_figures_and_another_seed_others(mode: str) -> None:
    scenario = replace(CALM, mode=mode, lost=0.1, rejected=0.02, joins=0.5)

    assert simulate(scenario) == simulate(scenario)
    assert simulate(scenario) != simulate(replace(scenario, seed=1))


shares = st.sampled_from([0.0, 0.1, 0.5, 1.0])


@settings(max_examples=40, deadline=None)
@given(
    mode=st.sampled_from(["synchronous", "buffered"]),
    times=st.sampled_from(["lognormal", "pareto", "fixed"]),
    lost=shares,
    rejected=shares,
    hears=shares,
    deadline=st.sampled_from([20.0, 90.0, 600.0]),
    summing=st.sampled_from([0.0, 30.0]),
    up=st.sampled_from([1e4, 1e6]),
    seed=st.integers(0, 1000),
)
def test_whatever_happens_everybody_who_was_drawn_is_accounted_for(mode: str, **others: object) -> None:
    f = simulate(Scenario(population=60, rounds=3, goal=8, drawn=12, quorum=4, mode=mode, joins=0.1, **others))  # type: ignore[arg-type]

    assert settled(f) == f.drawn
    assert f.completed + f.invalid == 3
    assert len(f.counted_at_close) == 3
    assert f.worth <= f.counted
    assert f.bytes_wasted <= f.moved
