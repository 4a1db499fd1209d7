"""A run: a number of rounds, one after the other, until success, failure or a stop."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine
from grid.wire.problems import OutOfTurn


class State(StrEnum):
    """Preparing: participants are invited and given the plan. Running: a round collects updates."""

    STANDBY = "standby"
    PREPARING = "preparing"
    RUNNING = "running"
    AGGREGATING = "aggregating"
    SUCCESS = "success"
    FAILED = "failed"
    STOPPED = "stopped"


STANDBY, PREPARING, RUNNING, AGGREGATING, SUCCESS, FAILED, STOPPED = State


class Run(Struct, frozen=True):
    """Run `id` of `rounds` rounds; `current` is the round it is in, 0 before the first."""

    id: str
    rounds: int
    current: int = 0
    state: State = STANDBY
    reason: str = ""


class Started(Struct, frozen=True):
    """A coordinator took the run up."""


class Prepared(Struct, frozen=True):
    """Enough nodes take part."""


class PreparationFailed(Struct, frozen=True):
    """Too few nodes take part, or the plan was refused."""

    reason: str


class RoundCollected(Struct, frozen=True):
    """The updates of a round are in."""

    number: int


class RoundCompleted(Struct, frozen=True):
    """The checkpoint after a round is on disk."""

    number: int


class LearnedEnough(Struct, frozen=True):
    """The checkpoint after a round is on disk, and by the task's own rule it is the last one."""

    number: int
    reason: str


class RoundInvalid(Struct, frozen=True):
    """A round came to nothing."""

    number: int
    reason: str


class Stopped(Struct, frozen=True):
    """Its owner, or the coordinator's, does not want it to go on."""

    reason: str = ""


class Prepare(Struct, frozen=True):
    """Invite participants and check the plan."""


class OpenRound(Struct, frozen=True):
    """Open the round of this number."""

    number: int


class Finish(Struct, frozen=True):
    """Tell everybody that the run is over, and how it ended."""

    state: State


Effect = Prepare | OpenRound | Finish
Outcome = tuple[Run, tuple[Effect, ...]]


def prepare(r: Run, e: Started) -> Outcome:
    """Find out who takes part."""
    return replace(r, state=PREPARING), (Prepare(),)


def begin(r: Run, e: Prepared) -> Outcome:
    """Open the first round."""
    return replace(r, state=RUNNING, current=1), (OpenRound(1),)


def collected(r: Run, e: RoundCollected) -> Outcome:
    """The present round sums its updates."""
    _present(r, e.number)
    return replace(r, state=AGGREGATING), ()


def completed(r: Run, e: RoundCompleted) -> Outcome:
    """Open the next round, or be done."""
    _present(r, e.number)
    if r.current == r.rounds:
        return replace(r, state=SUCCESS), (Finish(SUCCESS),)
    return replace(r, state=RUNNING, current=r.current + 1), (OpenRound(r.current + 1),)


def enough(r: Run, e: LearnedEnough) -> Outcome:
    """A success before the last round."""
    _present(r, e.number)
    return replace(r, state=SUCCESS, reason=e.reason), (Finish(SUCCESS),)


def invalid(r: Run, e: RoundInvalid) -> Outcome:
    """A round that came to nothing ends the run; its checkpoints stay."""
    _present(r, e.number)
    return replace(r, state=FAILED, reason=e.reason), (Finish(FAILED),)


def unprepared(r: Run, e: PreparationFailed) -> Outcome:
    """The run ends before its first round."""
    return replace(r, state=FAILED, reason=e.reason), (Finish(FAILED),)


def stop(r: Run, e: Stopped) -> Outcome:
    """The run ends where it is."""
    return replace(r, state=STOPPED, reason=e.reason), (Finish(STOPPED),)


def _present(r: Run, number: int) -> None:
    if number != r.current:
        raise OutOfTurn(f"the run is in round {r.current}, not {number}")


RUN: Machine[Run, Effect] = Machine(
    "run",
    STANDBY,
    {
        (STANDBY, Started): (prepare, frozenset({PREPARING})),
        (STANDBY, Stopped): (stop, frozenset({STOPPED})),
        (PREPARING, Prepared): (begin, frozenset({RUNNING})),
        (PREPARING, PreparationFailed): (unprepared, frozenset({FAILED})),
        (PREPARING, Stopped): (stop, frozenset({STOPPED})),
        (RUNNING, RoundCollected): (collected, frozenset({AGGREGATING})),
        (RUNNING, RoundInvalid): (invalid, frozenset({FAILED})),
        (RUNNING, Stopped): (stop, frozenset({STOPPED})),
        (AGGREGATING, RoundCompleted): (completed, frozenset({RUNNING, SUCCESS})),
        (AGGREGATING, LearnedEnough): (enough, frozenset({SUCCESS})),
        (AGGREGATING, RoundInvalid): (invalid, frozenset({FAILED})),
        (AGGREGATING, Stopped): (stop, frozenset({STOPPED})),
    },
)
advance = RUN.advance
