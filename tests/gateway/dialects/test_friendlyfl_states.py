"""FriendlyFL's nine states as a projection: the whole table, and that its moves are those of our machines."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.gateway.dialects.friendlyfl_states import (
    ARROWS,
    OWN,
    Status,
    check_move,
    moved,
    part_events,
    run_events,
    status_of,
)
from grid.protocol import assignment, run
from grid.protocol.assignment import Assignment
from grid.protocol.run import Run
from grid.wire.problems import OutOfTurn

# One line for each state of the run; by the states of the assignment, in the order of its enum:
# invited, committed, fetched, training, uploaded, accepted, rejected, failed, expired
TABLE = {
    run.STANDBY: (2, 3, 4, 4, 5, 6, 1, 1, 1),
    run.PREPARING: (2, 3, 4, 4, 5, 6, 1, 1, 1),
    run.RUNNING: (2, 3, 4, 4, 5, 6, 1, 1, 1),
    run.AGGREGATING: (7, 7, 7, 7, 7, 7, 1, 1, 1),
    run.SUCCESS: (8, 8, 8, 8, 8, 8, 8, 8, 8),
    run.FAILED: (1, 1, 1, 1, 0, 0, 0, 0, 0),
    run.STOPPED: (1, 1, 1, 1, 0, 0, 0, 0, 0),
}
CASES = [
    (whole, part, number) for whole, line in TABLE.items() for part, number in zip(assignment.State, line, strict=True)
]


@pytest.mark.parametrize(("whole", "part", "number"), CASES)
def test_each_pair_of_states_has_one_of_the_nine(whole: run.State, part: assignment.State, number: int) -> None:
    assert status_of(whole, part) == number


def test_the_table_knows_every_pair_and_every_number() -> None:
    assert {(whole, part) for whole, part, _ in CASES} == set(itertools.product(run.State, assignment.State))
    assert {number for _, _, number in CASES} == set(Status)


@pytest.mark.parametrize(("now", "to"), list(itertools.product(Status, Status)))
def test_a_move_that_friendlyfl_does_not_have_is_refused(now: Status, to: Status) -> None:
    for own in (True, False):
        if (now, to) in ARROWS and (not own or (now, to) in OWN):
            check_move(now, to, own=own)
        else:
            with pytest.raises(OutOfTurn):
                check_move(now, to, own=own)


def test_nothing_is_stopped_while_it_is_aggregated() -> None:
    assert (Status.AGGREGATING, Status.PENDING_FAILED) not in ARROWS
    assert (Status.STANDBY, Status.FAILED) not in ARROWS  # PENDING_FAILED stands between


@given(st.lists(st.sampled_from(Status), max_size=40), st.integers(1, 3))
def test_every_move_of_a_lone_coordinator_ends_in_the_state_that_it_names(wanted: list[Status], rounds: int) -> None:
    r, part = Run("r", rounds), Assignment("r", 0, "site")
    for to in wanted:
        now = status_of(r.state, part.state)
        try:
            check_move(now, to, own=False)
            next_round = to == Status.STANDBY
            after, mine = moved(r, part, run_events(r, to, "why"), part_events_of(r, to))
        except OutOfTurn:
            continue
        if next_round:
            mine = Assignment("r", after.current, "site")
            if after.state == run.SUCCESS:  # there was no next round
                assert r.current == r.rounds
                r, part = after, mine
                continue
        assert status_of(after.state, mine.state) == to
        r, part = after, mine


def part_events_of(r: Run, to: Status) -> list[object]:
    """A stop for all is the run's alone; that a site has ceased is its own."""
    if to == Status.PENDING_FAILED:
        return []
    if to == Status.FAILED and r.state in {run.STOPPED, run.FAILED}:
        return [assignment.Failed("why")]
    return part_events(to, "why")
