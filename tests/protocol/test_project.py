from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from grid.protocol.project import (
    FAILED,
    OVER,
    RUNNING,
    STOPPED,
    STOPPING,
    SUCCESS,
    Batch,
    BatchRestarted,
    BatchStarted,
    RunStopped,
    StopAsked,
    TaskFailed,
    TaskFinished,
    advance,
    task_of,
)
from grid.wire.problems import OutOfTurn, ProjectRefused
from grid.wire.projects import ProjectTask
from grid.wire.runs import Quorum


def play(batch: Batch, *events: object) -> Batch:
    """The batch after these events."""
    for event in events:
        batch, _ = advance(batch, event)
    return batch


NEW = Batch("p", 1, tasks=2)


def test_tasks_are_run_in_order_each_with_a_run_of_its_own() -> None:
    batch = play(NEW, BatchStarted("a"))
    assert (batch.state, batch.task, batch.run) == (RUNNING, 1, "a")

    batch = play(batch, TaskFinished("a", "b"))
    assert (batch.state, batch.task, batch.run) == (RUNNING, 2, "b")

    assert play(batch, TaskFinished("b", "c")) == replace(batch, state=SUCCESS)


def test_what_comes_after_a_failed_task_does_not_come_until_it_is_run_again() -> None:
    batch = play(NEW, BatchStarted("a"), TaskFinished("a", "b"), TaskFailed("b", "nobody came"))
    assert (batch.state, batch.reason) == (FAILED, "nobody came")

    batch = play(batch, BatchRestarted("c"))
    assert (batch.state, batch.task, batch.run, batch.reason) == (RUNNING, 2, "c", "")


def test_a_stop_is_over_once_the_run_is() -> None:
    batch = play(NEW, BatchStarted("a"), StopAsked())
    assert batch.state == STOPPING

    assert play(batch, RunStopped("a", "by its owner")).state == STOPPED
    assert play(batch, TaskFailed("a", "nobody came")).state == FAILED


def test_a_task_that_succeeded_before_it_heard_of_the_stop_is_not_run_again() -> None:
    batch = play(NEW, BatchStarted("a"), StopAsked(), TaskFinished("a", "b"))
    assert (batch.state, batch.task) == (STOPPED, 2)

    last = play(NEW, BatchStarted("a"), TaskFinished("a", "b"), StopAsked(), TaskFinished("b", "c"))
    assert last.state == SUCCESS


def test_what_is_told_of_another_run_changes_nothing() -> None:
    batch = play(NEW, BatchStarted("a"), TaskFinished("a", "b"))

    for late in (TaskFinished("a", "c"), TaskFailed("a", ""), RunStopped("a", "")):
        with pytest.raises(OutOfTurn):
            advance(batch, late)


MOVES = st.sampled_from(["start", "finish", "fail", "stop", "stopped", "restart"])


@given(st.integers(1, 4), st.lists(MOVES, max_size=25))
def test_no_order_of_events_skips_a_task_or_runs_one_twice_after_it_succeeded(tasks: int, moves: list[str]) -> None:
    batch, done, used = Batch("p", 1, tasks), [], set()
    for at, move in enumerate(moves):
        new = f"run-{at}"
        event: Any = {
            "start": BatchStarted(new),
            "finish": TaskFinished(batch.run, new),
            "fail": TaskFailed(batch.run, "why"),
            "stop": StopAsked(),
            "stopped": RunStopped(batch.run, "why"),
            "restart": BatchRestarted(new),
        }[move]
        before = batch
        try:
            batch, _ = advance(batch, event)
        except OutOfTurn:
            continue
        if move == "finish":
            done.append(before.task)
        if batch.run != before.run and batch.run:
            assert batch.run not in used
            used.add(batch.run)
        assert 1 <= batch.task <= tasks
    assert done == list(range(1, len(done) + 1))
    assert (batch.state == SUCCESS) == (len(done) == tasks)
    assert batch.state not in OVER or batch.state != SUCCESS or batch.task == tasks


def test_a_runs_task_is_what_the_project_asks_for_and_has_time_for_all_its_rounds() -> None:
    asked = ProjectTask("d" * 64, {"tags": ["#a"], "rounds": 3, "deadline": 10.0, "quorum": {"minimum": 2}})

    task = task_of(asked, "r" * 32, "e" * 64, "k" * 43, 100.0)

    assert (task.run, task.plan, task.coordinator, task.tags) == ("r" * 32, "e" * 64, "k" * 43, ("#a",))
    assert (task.rounds, task.quorum, task.created, task.expires) == (3, Quorum(2), 100.0, 3730.0)


@pytest.mark.parametrize(
    "parameters",
    [{}, {"tags": []}, {"tags": ["#a"], "plan": "d" * 64}, {"tags": ["#a"], "quorum": 3}, {"tags": ["#a"], "x": 1}],
)
def test_parameters_that_no_task_has_are_refused(parameters: dict[str, Any]) -> None:
    with pytest.raises(ProjectRefused):
        task_of(ProjectTask("d" * 64, parameters), "r" * 32, "e" * 64, "k" * 43, 0.0)
