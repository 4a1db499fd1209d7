from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.task import (
    AGGREGATED,
    AGGREGATING,
    ARCHIVED,
    CLOSED,
    DRAFT,
    EVALUATED,
    OPEN,
    TASK,
    Aggregate,
    Aggregated,
    AggregationAsked,
    AggregationFailed,
    Archived,
    Closed,
    DeadlinePassed,
    Evaluate,
    Evaluated,
    EvaluationAsked,
    EvaluationFailed,
    Opened,
    Resumed,
    Task,
    WakeAt,
    admit_commit,
    advance,
)
from grid.wire.problems import GridError, OutOfTurn, RunRefused, TaskClosed

OPENED = Opened(ends=100.0, at=0.0)


def play(*events: object, task: Task | None = None) -> tuple[Task, list[Any]]:
    """The task after these events, and all their effects."""
    task, effects = task or Task("t"), []
    for event in events:
        task, more = advance(task, event)
        effects += more
    return task, effects


def test_a_task_is_opened_closed_summed_evaluated_and_put_away() -> None:
    way = [OPENED, Closed(), AggregationAsked(), Aggregated(), EvaluationAsked(), Evaluated(), Archived()]

    task, effects = play(*way)

    assert task.state == ARCHIVED
    assert effects == [WakeAt(100.0), Aggregate(), Evaluate()]


def test_the_clock_closes_a_task_before_any_timer_rings() -> None:
    task, _ = play(OPENED)
    admit_commit(task, now=99.9)

    with pytest.raises(TaskClosed, match="the deadline of task t has passed"):
        admit_commit(task, now=100.0)


def test_a_closed_task_says_why_it_takes_no_commits() -> None:
    task, _ = play(OPENED, DeadlinePassed(100.0))

    with pytest.raises(TaskClosed, match="task t is closed: its deadline has passed"):
        admit_commit(task, now=50.0)


def test_a_task_that_was_given_more_time_does_not_hear_its_old_timer() -> None:
    task, effects = play(OPENED, Opened(ends=200.0, at=50.0), DeadlinePassed(100.0))

    assert (task.state, task.ends) == (OPEN, 200.0)
    assert effects[-1] == WakeAt(200.0)


def test_a_closed_task_opens_again_until_its_updates_are_summed() -> None:
    task, _ = play(OPENED, Closed(), Opened(ends=300.0, at=120.0))
    assert task.state == OPEN

    task, _ = play(Closed(), AggregationAsked(), task=task)
    with pytest.raises(OutOfTurn):
        advance(task, Opened(ends=400.0, at=150.0))


def test_a_deadline_in_the_past_opens_nothing() -> None:
    with pytest.raises(RunRefused):
        play(Opened(ends=10.0, at=10.0))


def test_a_sum_that_failed_may_be_asked_for_again_and_says_what_was_wrong() -> None:
    task, _ = play(OPENED, Closed(), AggregationAsked(), AggregationFailed("no update was handed in"))

    assert (task.state, task.reason) == (CLOSED, "no update was handed in")
    assert play(AggregationAsked(), task=task)[0] == Task("t", 100.0, AGGREGATING)


def test_an_evaluation_that_failed_leaves_the_sum_as_it_is() -> None:
    way = [OPENED, Closed(), AggregationAsked(), Aggregated(), EvaluationAsked(), EvaluationFailed("no held-out data")]

    task, _ = play(*way)

    assert (task.state, task.reason) == (AGGREGATED, "no held-out data")


@pytest.mark.parametrize(
    ("before", "owed"),
    [
        ([OPENED], WakeAt(100.0)),
        ([OPENED, Closed(), AggregationAsked()], Aggregate()),
        ([OPENED, Closed(), AggregationAsked(), Aggregated(), EvaluationAsked()], Evaluate()),
    ],
)
def test_whoever_is_back_after_a_stop_is_told_what_it_owed(before: list[object], owed: object) -> None:
    assert play(*before, Resumed())[1][-1] == owed


TIMES = st.floats(0, 1000)
EVENTS = st.one_of(
    st.builds(Opened, TIMES, TIMES),
    st.builds(DeadlinePassed, TIMES),
    *(st.just(event()) for event in (Closed, AggregationAsked, Aggregated, EvaluationAsked, Evaluated, Resumed)),
    st.builds(AggregationFailed, st.text(max_size=5)),
    st.builds(EvaluationFailed, st.text(max_size=5)),
    st.just(Archived()),
)


@given(st.lists(EVENTS, max_size=40), TIMES)
def test_whatever_happens_only_an_open_task_takes_commits_and_a_sum_is_never_undone(
    events: list[object], now: float
) -> None:
    task, summed = Task("t"), False
    for event in events:
        try:
            task, _ = advance(task, event)
        except GridError:
            continue
        summed = summed or isinstance(event, Aggregated)
        assert not summed or task.state not in {DRAFT, OPEN, CLOSED, AGGREGATING}
        assert task.state != EVALUATED or summed
    if task.state != OPEN or now >= task.ends:
        with pytest.raises(TaskClosed):
            admit_commit(task, now)
    assert TASK.final(ARCHIVED)
