"""A task: work that is open to whoever may commit to it, until it is closed, summed, evaluated and put away.

A run carries out one task over nodes that are invited. A task by itself waits for devices that come by: they commit
while it is open, and hand in until its deadline, which closes it by the clock. Closed, it may be opened again until
its updates are summed.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine
from grid.wire.problems import RunRefused, TaskClosed


class State(StrEnum):
    """Closed: nobody may commit any more. Archived: nothing more will become of it."""

    DRAFT = "draft"
    OPEN = "open"
    CLOSED = "closed"
    AGGREGATING = "aggregating"
    AGGREGATED = "aggregated"
    EVALUATING = "evaluating"
    EVALUATED = "evaluated"
    ARCHIVED = "archived"


DRAFT, OPEN, CLOSED, AGGREGATING, AGGREGATED, EVALUATING, EVALUATED, ARCHIVED = State


class Task(Struct, frozen=True):
    """Task `id`, open until `ends` (UTC seconds); `reason` says why it was closed, or what last went wrong."""

    id: str
    ends: float = 0.0
    state: State = DRAFT
    reason: str = ""


class Opened(Struct, frozen=True):
    """Whoever owns it lets others commit until `ends`; again, where it was closed; longer, where it is open."""

    ends: float
    at: float


class Closed(Struct, frozen=True):
    """Its owner wants no more commits."""

    reason: str = "closed by its owner"


class DeadlinePassed(Struct, frozen=True):
    """A timer set for `Task.ends` rang."""

    at: float


class AggregationAsked(Struct, frozen=True):
    """Sum what was handed in."""


class Aggregated(Struct, frozen=True):
    """The sum is a checkpoint on disk."""


class AggregationFailed(Struct, frozen=True):
    """There is no sum."""

    reason: str


class EvaluationAsked(Struct, frozen=True):
    """Compare the new checkpoint with those that the task began with."""


class Evaluated(Struct, frozen=True):
    """The comparison is on disk."""


class EvaluationFailed(Struct, frozen=True):
    """There is no comparison."""

    reason: str


class Archived(Struct, frozen=True):
    """It is of the past."""


class Resumed(Struct, frozen=True):
    """Whoever worked on it is back after a stop."""


class WakeAt(Struct, frozen=True):
    """Send `DeadlinePassed` at this time."""

    at: float


class Aggregate(Struct, frozen=True):
    """Have an aggregator sum the updates."""


class Evaluate(Struct, frozen=True):
    """Have an evaluator compare the checkpoints."""


Effect = WakeAt | Aggregate | Evaluate
Outcome = tuple[Task, tuple[Effect, ...]]


def admit_commit(t: Task, now: float) -> None:
    """Whether somebody may commit to the task now; the clock closes it, whether or not its timer has rung.

    Raises:
        TaskClosed: it is not open, or its deadline has passed.
    """
    if t.state != OPEN:
        raise TaskClosed(f"task {t.id} is {t.state}" + (f": {t.reason}" if t.reason else ""))
    if now >= t.ends:
        raise TaskClosed(f"the deadline of task {t.id} has passed")


# --- rules ------------------------------------------------------------------------------------


def open_(t: Task, e: Opened) -> Outcome:
    """Open it, open it again, or give it more time, or less."""
    if e.ends <= e.at:
        raise RunRefused("a task needs a deadline that has not passed")
    return replace(t, state=OPEN, ends=e.ends, reason=""), (WakeAt(e.ends),)


def close(t: Task, e: Closed) -> Outcome:
    """No further commits."""
    return replace(t, state=CLOSED, reason=e.reason), ()


def expire(t: Task, e: DeadlinePassed) -> Outcome:
    """Close at the deadline; a timer of an earlier one, set before the task was given more time, says nothing."""
    return (t, ()) if e.at < t.ends else (replace(t, state=CLOSED, reason="its deadline has passed"), ())


def aggregate(t: Task, e: AggregationAsked) -> Outcome:
    """From here on its updates are those that it has."""
    return replace(t, state=AGGREGATING, reason=""), (Aggregate(),)


def aggregated(t: Task, e: Aggregated) -> Outcome:
    """There is a new checkpoint."""
    return replace(t, state=AGGREGATED), ()


def unaggregated(t: Task, e: AggregationFailed) -> Outcome:
    """It may be asked for again, or the task opened for more updates."""
    return replace(t, state=CLOSED, reason=e.reason), ()


def evaluate(t: Task, e: EvaluationAsked) -> Outcome:
    """Find out what the sum is worth."""
    return replace(t, state=EVALUATING, reason=""), (Evaluate(),)


def evaluated(t: Task, e: Evaluated) -> Outcome:
    """It is known what the sum is worth."""
    return replace(t, state=EVALUATED), ()


def unevaluated(t: Task, e: EvaluationFailed) -> Outcome:
    """It may be asked for again."""
    return replace(t, state=AGGREGATED, reason=e.reason), ()


def archive(t: Task, e: Archived) -> Outcome:
    """Put it away."""
    return replace(t, state=ARCHIVED), ()


def resume(t: Task, e: Resumed) -> Outcome:
    """Give the effects again that were owed when everything stopped."""
    owed: dict[State, Effect] = {OPEN: WakeAt(t.ends), AGGREGATING: Aggregate(), EVALUATING: Evaluate()}
    return t, (owed[t.state],)


TASK: Machine[Task, Effect] = Machine(
    "task",
    DRAFT,
    {
        (DRAFT, Opened): (open_, frozenset({OPEN})),
        (DRAFT, Archived): (archive, frozenset({ARCHIVED})),
        (OPEN, Opened): (open_, frozenset({OPEN})),
        (OPEN, Closed): (close, frozenset({CLOSED})),
        (OPEN, DeadlinePassed): (expire, frozenset({OPEN, CLOSED})),
        (OPEN, Resumed): (resume, frozenset({OPEN})),
        (CLOSED, Opened): (open_, frozenset({OPEN})),
        (CLOSED, AggregationAsked): (aggregate, frozenset({AGGREGATING})),
        (CLOSED, Archived): (archive, frozenset({ARCHIVED})),
        (AGGREGATING, Aggregated): (aggregated, frozenset({AGGREGATED})),
        (AGGREGATING, AggregationFailed): (unaggregated, frozenset({CLOSED})),
        (AGGREGATING, Resumed): (resume, frozenset({AGGREGATING})),
        (AGGREGATED, EvaluationAsked): (evaluate, frozenset({EVALUATING})),
        (AGGREGATED, Archived): (archive, frozenset({ARCHIVED})),
        (EVALUATING, Evaluated): (evaluated, frozenset({EVALUATED})),
        (EVALUATING, EvaluationFailed): (unevaluated, frozenset({AGGREGATED})),
        (EVALUATING, Resumed): (resume, frozenset({EVALUATING})),
        (EVALUATED, Archived): (archive, frozenset({ARCHIVED})),
    },
)
advance = TASK.advance
