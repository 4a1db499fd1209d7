"""FriendlyFL's nine states of a run, read from our two machines, and its moves as their events.

FriendlyFL keeps one row for each participant of a batch. What it calls a run is one run of ours, which all rows of a
batch share, and the assignment that each row has in its present round. Its states are a projection of the two:

* no run is STANDBY in a round of its own: a site that has not said that it is ready is, in any round;
* a stop reaches a site that may still be at work as PENDING_FAILED, and any other one as FAILED.

Source: friendlyfl-router, its transitions by django-fsm (states and arrows; the code is our own).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from grid.gateway.shared_runs import Step
from grid.protocol import assignment, run
from grid.protocol.assignment import Assignment
from grid.protocol.run import Run
from grid.wire.problems import OutOfTurn


class Status(IntEnum):
    """The numbers that are on the wire."""

    FAILED = 0
    PENDING_FAILED = 1
    STANDBY = 2
    PREPARING = 3
    RUNNING = 4
    PENDING_SUCCESS = 5
    PENDING_AGGREGATING = 6
    AGGREGATING = 7
    SUCCESS = 8


FAILED, PENDING_FAILED, STANDBY, PREPARING, RUNNING, PENDING_SUCCESS, PENDING_AGGREGATING, AGGREGATING, SUCCESS = Status

AT_WORK = {
    assignment.INVITED: STANDBY,
    assignment.COMMITTED: PREPARING,
    assignment.FETCHED: RUNNING,
    assignment.TRAINING: RUNNING,
}
"""A site that has something to do, or to leave undone."""

DONE = {assignment.UPLOADED: PENDING_SUCCESS, assignment.ACCEPTED: PENDING_AGGREGATING}
"""A site that has done what the round asks of it."""

ARROWS = frozenset(
    {
        (STANDBY, PREPARING),
        (PREPARING, RUNNING),
        (RUNNING, PENDING_SUCCESS),
        (PENDING_SUCCESS, PENDING_AGGREGATING),
        (PENDING_SUCCESS, SUCCESS),
        (PENDING_AGGREGATING, AGGREGATING),
        (AGGREGATING, SUCCESS),
        (AGGREGATING, STANDBY),  # the next round
        (STANDBY, PENDING_FAILED),
        (PREPARING, PENDING_FAILED),
        (RUNNING, PENDING_FAILED),
        (PENDING_FAILED, FAILED),
        (PENDING_AGGREGATING, FAILED),
        (AGGREGATING, FAILED),
    }
)
"""Every move that FriendlyFL has, but for a restart, which begins anew whatever was."""

OWN = frozenset(
    {
        (STANDBY, PREPARING),
        (RUNNING, PENDING_SUCCESS),
        (PENDING_SUCCESS, PENDING_AGGREGATING),
        (STANDBY, PENDING_FAILED),
        (PREPARING, PENDING_FAILED),
        (RUNNING, PENDING_FAILED),
        (PENDING_FAILED, FAILED),
    }
)
"""The moves that a site makes for itself; all others are the coordinator's, and all sites' at once."""


def status_of(whole: run.State, part: assignment.State) -> Status:
    """What FriendlyFL calls it when the run is in one state and a site's assignment in another."""
    match whole:
        case run.SUCCESS:
            return SUCCESS
        case run.FAILED | run.STOPPED:
            return PENDING_FAILED if part in AT_WORK else FAILED
        case run.AGGREGATING if part not in {assignment.REJECTED, assignment.FAILED, assignment.EXPIRED}:
            return AGGREGATING
        case _:
            return {**AT_WORK, **DONE}.get(part, PENDING_FAILED)


def check_move(now: Status, to: Status, *, own: bool) -> None:
    """Whether there is such a move, and who asks may make it for one row (`own`) or has to make it for all.

    Raises:
        OutOfTurn: FriendlyFL has no such move, or it is the coordinator's.
    """
    if (now, to) not in ARROWS:
        raise OutOfTurn(f"a run cannot go from {now.name} to {to.name}")
    if own and (now, to) not in OWN:
        raise OutOfTurn(f"from {now.name} to {to.name} all sites go at once, by their coordinator's word")


def part_events(to: Status, reason: str) -> list[object]:
    """What a move is to the assignment of a site that makes it."""
    match to:
        case Status.PREPARING:
            return [assignment.Committed()]
        case Status.RUNNING:
            return [assignment.Fetched(), assignment.TrainingStarted()]
        case Status.PENDING_SUCCESS:
            return [assignment.Uploaded()]
        case Status.PENDING_AGGREGATING:
            return [assignment.Accepted()]
        case Status.PENDING_FAILED:
            return [assignment.Failed(reason)]
        case _:
            return []


def run_events(r: Run, to: Status, reason: str) -> list[object]:
    """What a move is to the run, if it is made for all (or, of PREPARING and FAILED, by one)."""
    match to:
        case Status.PREPARING:
            return [run.Started()] if r.state == run.STANDBY else []
        case Status.RUNNING:
            return [run.Prepared()] if r.state == run.PREPARING else []
        case Status.AGGREGATING:
            return [run.RoundCollected(r.current)]
        case Status.STANDBY:
            return [run.RoundCompleted(r.current)]
        case Status.SUCCESS:
            summed: list[object] = [run.RoundCollected(r.current)] if r.state == run.RUNNING else []
            last = r.current == r.rounds
            ended = run.RoundCompleted(r.current) if last else run.LearnedEnough(r.current, "said by its coordinator")
            return [*summed, ended]
        case Status.PENDING_FAILED:
            return [run.Stopped(reason)]
        case Status.FAILED:
            return _fails(r, reason)
        case _:
            return []


def _fails(r: Run, reason: str) -> list[object]:
    match r.state:
        case run.STANDBY:
            return [run.Stopped(reason)]
        case run.PREPARING:
            return [run.PreparationFailed(reason)]
        case run.RUNNING | run.AGGREGATING:
            return [run.RoundInvalid(r.current, reason)]
        case _:
            return []


def moved(r: Run, part: Assignment, whole: list[object], own: list[object]) -> tuple[Run, Assignment]:
    """A run and an assignment after their events."""
    for event in whole:
        r, _ = run.advance(r, event)
    for event in own:
        part, _ = assignment.advance(part, event)
    return r, part


def step(to: Status, reason: str) -> Step:
    """The move to a status, for one part (as its site may) or for all (as their coordinator may).

    It raises OutOfTurn where FriendlyFL has no such move, for any of those that are to make it: nobody goes ahead of
    the others. A stop passes over those that are done or have failed.
    """

    def move(r: Run, parts: Sequence[Assignment], mine: int | None) -> tuple[Run, list[Assignment]]:
        if mine is not None:
            check_move(status_of(r.state, parts[mine].state), to, own=True)
            whole = run_events(r, to, reason) if to in {PREPARING, FAILED} else []
            own: list[object] = part_events(to, reason)
            if to == FAILED and parts[mine].state in AT_WORK:
                own = [assignment.Failed(reason)]
            after, part = moved(r, parts[mine], whole, own)
            return after, [*parts[:mine], part, *parts[mine + 1 :]]
        _check_all(r, parts, to)
        after, _ = moved(r, parts[0], run_events(r, to, reason), [])
        if to == STANDBY:
            return after, [Assignment(part.run, after.current, part.node) for part in parts]
        return after, [_with_all(r, part, to, reason) for part in parts]

    return move


def _check_all(r: Run, parts: Sequence[Assignment], to: Status) -> None:
    movable = [now for part in parts if (now := status_of(r.state, part.state)) > PENDING_FAILED]
    if to == FAILED:
        movable = [status_of(r.state, part.state) for part in parts]
    if to == PENDING_FAILED and AGGREGATING not in movable:
        movable = [now for now in movable if now <= RUNNING]
    if not movable:
        raise OutOfTurn(f"nothing goes on that could go to {to.name}")
    for now in movable:
        check_move(now, to, own=False)


def _with_all(r: Run, part: Assignment, to: Status, reason: str) -> Assignment:
    """A part after a move of all: what the run does alone, a stop or a sum, changes no part."""
    if to == FAILED and part.state in AT_WORK:
        own: list[object] = [assignment.Failed(reason)]
    elif to in {PENDING_FAILED, FAILED} or status_of(r.state, part.state) <= PENDING_FAILED:
        own = []
    else:
        own = part_events(to, reason)
    return moved(r, part, [], own)[1]
