from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.fleet import (
    COMPLETED,
    FLEET,
    RUNNING,
    STOPPED,
    Enough,
    Fleet,
    Halted,
    Powered,
    Report,
    RoundCounted,
    Started,
    TooFew,
    is_eligible,
    next_event,
    reaches,
)
from grid.wire.problems import GridError, OutOfTurn, RunRefused

NAMES = st.frozensets(st.sampled_from("abcdef"))
NOW = 10_000.0


@pytest.mark.parametrize(
    ("plugged", "level", "plugged_only", "eligible"),
    [
        (True, 1.0, True, True),
        (True, 0.0, True, True),
        (False, 1.0, True, False),
        (None, 1.0, True, False),
        (True, None, False, True),
        (False, 0.60, False, True),
        (False, 0.59, False, False),
        (None, 0.60, False, True),
        (False, None, False, False),
    ],
)
def test_l2_a_device_is_plugged_in_or_its_battery_holds_where_that_is_enough(
    plugged: bool | None, level: float | None, plugged_only: bool, eligible: bool
) -> None:
    assert is_eligible(Report(NOW, plugged, level), Powered(plugged_only, 0.60), NOW) == eligible


def test_l2_a_report_holds_for_an_hour() -> None:
    report = Report(NOW - 3600.0, plugged=True)

    assert not is_eligible(report, Powered(), NOW)
    assert is_eligible(report, Powered(), NOW - 0.1)
    assert not is_eligible(None, Powered(), NOW)


@pytest.mark.parametrize("says", [True, False])
def test_l2_a_device_that_judged_by_itself_is_believed(says: bool) -> None:
    assert is_eligible(Report(NOW, plugged=not says, eligible=says), Powered(), NOW) == says


def test_a_threshold_is_reached_by_what_is_exactly_that_share() -> None:
    assert reaches(7, 10, 0.70)
    assert reaches(4, 5, 0.80)
    assert reaches(56, 70, 0.80)
    assert not reaches(69, 100, 0.70)
    assert not reaches(0, 0, 0.0)


@given(NAMES, NAMES, NAMES, NAMES, st.integers(0, 8), st.floats(0, 1), st.booleans())
def test_a_round_goes_on_while_somebody_is_waited_for_and_its_time_is_not_over(
    asked: frozenset[str],
    joined: frozenset[str],
    done: frozenset[str],
    failed: frozenset[str],
    of: int,
    threshold: float,
    over: bool,
) -> None:
    event = next_event(asked=asked, joined=joined, done=done, failed=failed, of=of, threshold=threshold, over=over)

    if not over and (asked | joined) - done - failed:
        assert event is None
    else:
        assert isinstance(event, Enough if reaches(len(done), of, threshold) else TooFew)


@given(st.integers(1, 5), st.lists(st.sampled_from([Started(), Halted(), RoundCounted()]), max_size=30))
def test_no_project_has_more_rounds_than_were_asked_for(rounds: int, events: list[object]) -> None:
    fleet = Fleet(rounds)
    for event in events:
        try:
            fleet, _ = FLEET.advance(fleet, event)
        except GridError:
            continue
    assert fleet.counted <= rounds
    assert (fleet.state == COMPLETED) == (fleet.counted == rounds)


def test_a_project_that_has_all_its_rounds_does_not_begin_again() -> None:
    for event in (Started(), Halted()):
        with pytest.raises(OutOfTurn):
            FLEET.advance(Fleet(1, 1, COMPLETED), event)
    with pytest.raises(RunRefused, match="2 rounds are complete, of 2"):
        FLEET.advance(Fleet(2, 2, STOPPED), Started())
    assert FLEET.advance(Fleet(2, 1, RUNNING), Halted())[0].state == STOPPED
