from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.assignment import (
    ACCEPTED,
    ASSIGNMENT,
    COMMITTED,
    EXPIRED,
    FAILED,
    REJECTED,
    UPLOADED,
    Accepted,
    Assignment,
    Committed,
    Expired,
    Failed,
    Fetched,
    Rejected,
    TrainingStarted,
    Uploaded,
    advance,
)
from grid.wire.problems import OutOfTurn

INVITED_ONE = Assignment("r", 1, "alice")


def play(a: Assignment, *events: object) -> Assignment:
    for event in events:
        a, _ = advance(a, event)
    return a


def test_from_the_invitation_to_a_counted_update() -> None:
    a = play(INVITED_ONE, Committed(), Fetched(), TrainingStarted(), Uploaded(), Accepted())

    assert a.state == ACCEPTED


@pytest.mark.parametrize(
    ("event", "state"), [(Rejected("not finite"), REJECTED), (Failed("gone"), FAILED), (Expired("late"), EXPIRED)]
)
def test_an_assignment_that_ends_otherwise_says_why(event: Rejected | Failed | Expired, state: str) -> None:
    a = play(INVITED_ONE, Committed(), Uploaded(), event)

    assert (a.state, a.reason) == (state, event.reason)


def test_a_node_that_was_restarted_trains_again_or_hands_in_what_it_had() -> None:
    training = play(INVITED_ONE, Committed(), Fetched(), TrainingStarted())
    gone = play(training, Failed("gone"))

    assert play(training, Committed()).state == COMMITTED
    assert play(gone, Committed()) == Assignment("r", 1, "alice", COMMITTED)
    assert play(gone, Uploaded()).state == UPLOADED


def test_an_update_that_never_arrived_cannot_be_accepted() -> None:
    with pytest.raises(OutOfTurn):
        play(INVITED_ONE, Committed(), Fetched(), TrainingStarted(), Accepted())


events = st.lists(
    st.sampled_from(
        [Committed(), Fetched(), TrainingStarted(), Uploaded(), Accepted(), Rejected("no"), Failed("no"), Expired()]
    )
)


@given(events)
def test_only_an_update_that_arrived_is_judged_and_the_judgement_stands(story: list[object]) -> None:
    a = INVITED_ONE
    for event in story:
        if not ASSIGNMENT.takes(a, type(event)):
            continue
        before, a = a, play(a, event)
        assert before.state not in {ACCEPTED, REJECTED, EXPIRED}
        if a.state in {ACCEPTED, REJECTED}:
            assert before.state == UPLOADED
