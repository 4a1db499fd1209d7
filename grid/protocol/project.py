"""A batch: one time through all tasks of a project, each with a run of its own, one after the other."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import fields, replace

from grid.protocol.machine import Machine
from grid.wire.problems import OutOfTurn, ProjectRefused
from grid.wire.projects import ProjectTask
from grid.wire.runs import Task

EXTRA = 3600.0
"""Seconds for which a task may be taken up beyond the time that its rounds may take."""

OWN = {"run", "plan", "coordinator", "created", "expires"}
"""What a run's task has of its own: a project's parameters do not name it."""


class State(StrEnum):
    """Stopping: its run was told to stop, and has not ended yet."""

    STANDBY = "standby"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCESS = "success"
    FAILED = "failed"
    STOPPED = "stopped"


STANDBY, RUNNING, STOPPING, SUCCESS, FAILED, STOPPED = State
OVER = frozenset({SUCCESS, FAILED, STOPPED})
"""Nothing goes on; but for a success, it may be taken up again."""


class Batch(Struct, frozen=True):
    """Batch `number` of `project`, at task `task` of `tasks` (from 1), whose run is `run`."""

    project: str
    number: int
    tasks: int
    task: int = 1
    run: str = ""
    state: State = STANDBY
    reason: str = ""


class BatchStarted(Struct, frozen=True):
    """Its owner wants it carried out. `run`: the id for the first task's run."""

    run: str


class TaskFinished(Struct, frozen=True):
    """The run `run` was a success. `follows`: the id for the next task's run, if there is a next one."""

    run: str
    follows: str


class TaskFailed(Struct, frozen=True):
    """The run `run` came to nothing."""

    run: str
    reason: str


class StopAsked(Struct, frozen=True):
    """Its owner does not want it to go on."""


class RunStopped(Struct, frozen=True):
    """The run `run` was stopped."""

    run: str
    reason: str


class BatchRestarted(Struct, frozen=True):
    """Its owner wants it to go on at the task that did not succeed, with the run `run`."""

    run: str


Outcome = tuple[Batch, tuple[()]]
"""No effects: the shell does what the present state wants, so that after a restart it only has to look."""


def begin(b: Batch, e: BatchStarted) -> Outcome:
    """Begin with the first task."""
    return replace(b, state=RUNNING, task=1, run=e.run), ()


def finished(b: Batch, e: TaskFinished) -> Outcome:
    """Go on with the next task, or be done."""
    _present(b, e.run)
    if b.task == b.tasks:
        return replace(b, state=SUCCESS), ()
    return replace(b, task=b.task + 1, run=e.follows), ()


def failed(b: Batch, e: TaskFailed) -> Outcome:
    """What comes after a failed task does not come."""
    _present(b, e.run)
    return replace(b, state=FAILED, reason=e.reason), ()


def stop(b: Batch, e: StopAsked) -> Outcome:
    """The run is told; the batch has stopped once the run has."""
    return replace(b, state=STOPPING), ()


def stopped(b: Batch, e: RunStopped) -> Outcome:
    """The run has stopped, and the batch with it."""
    _present(b, e.run)
    return replace(b, state=STOPPED, reason=e.reason), ()


def too_late(b: Batch, e: TaskFinished) -> Outcome:
    """The run was a success before it heard of the stop. No task comes after it; if none would have, all is done."""
    _present(b, e.run)
    if b.task == b.tasks:
        return replace(b, state=SUCCESS), ()
    return replace(b, state=STOPPED, task=b.task + 1, run="", reason="stopped between two tasks"), ()


def again(b: Batch, e: BatchRestarted) -> Outcome:
    """The tasks that succeeded stay; the first that did not is run anew."""
    return replace(b, state=RUNNING, run=e.run, reason=""), ()


def _present(b: Batch, run: str) -> None:
    if run != b.run:
        raise OutOfTurn(f"the batch is at run {b.run}, not {run}")


BATCH: Machine[Batch, None] = Machine(
    "batch",
    STANDBY,
    {
        (STANDBY, BatchStarted): (begin, frozenset({RUNNING})),
        (RUNNING, TaskFinished): (finished, frozenset({RUNNING, SUCCESS})),
        (RUNNING, TaskFailed): (failed, frozenset({FAILED})),
        (RUNNING, RunStopped): (stopped, frozenset({STOPPED})),
        (RUNNING, StopAsked): (stop, frozenset({STOPPING})),
        (STOPPING, TaskFinished): (too_late, frozenset({STOPPED, SUCCESS})),
        (STOPPING, TaskFailed): (failed, frozenset({FAILED})),
        (STOPPING, RunStopped): (stopped, frozenset({STOPPED})),
        (STOPPED, BatchRestarted): (again, frozenset({RUNNING})),
        (FAILED, BatchRestarted): (again, frozenset({RUNNING})),
    },
)
advance = BATCH.advance


def task_of(asked: ProjectTask, run: str, plan: str, coordinator: str, now: float) -> Task:
    """The task of one run: what the project asks for, with this plan, taken up at `now` (UTC seconds).

    Raises:
        ProjectRefused: tasks have no such parameter, or not with such a value.
    """
    known = {field.encode_name for field in fields(Task)} - OWN
    if unknown := sorted(asked.parameters.keys() - known):
        raise ProjectRefused(f"tasks have no parameter {', '.join(unknown)}; they have {', '.join(sorted(known))}")
    own: dict[str, Any] = {"run": run, "plan": plan, "coordinator": coordinator, "created": now, "expires": now}
    try:
        task = msgspec.convert({**asked.parameters, **own}, Task)
    except msgspec.ValidationError as error:
        raise ProjectRefused(f"task {asked.name}: {error}") from None
    return replace(task, expires=now + EXTRA + task.rounds * task.deadline)
