"""A project of a fleet: devices that come by train in rounds, one after the other, until enough of them count.

Source: FLaaS-Server (Katevas et al. 2022, arXiv:2206.10963), its scheduler. Other than there, a device is done when its
update is here, not when it says so; it counts once; and a round may close as soon as nobody is at work in it.
"""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine
from grid.wire.problems import RunRefused

FRESH = 3600.0
"""Seconds for which a device's report holds."""
SLACK = 1e-9
"""A ratio that is a threshold but for the rounding of its division has reached it."""


class State(StrEnum):
    """Completed: as many rounds counted as its owner asked for."""

    STOPPED = "stopped"
    RUNNING = "running"
    COMPLETED = "completed"


STOPPED, RUNNING, COMPLETED = State


class Stage(StrEnum):
    """Of a round. Waiting: too few devices could train. Invalid: too few did, and the next one begins as it did."""

    WAITING = "waiting"
    COLLECTING = "collecting"
    AGGREGATING = "aggregating"
    COMPLETE = "complete"
    INVALID = "invalid"


WAITING, COLLECTING, AGGREGATING, COMPLETE, INVALID = Stage


class Fleet(Struct, frozen=True):
    """A project: `counted` of its `rounds` are complete."""

    rounds: int
    counted: int = 0
    state: State = STOPPED


class Turn(Struct, frozen=True):
    """A round of a project, as far as its clock goes; `reason` says why it is invalid."""

    number: int
    state: Stage = WAITING
    reason: str = ""


# --- events -------------------------------------------------------------------------------------


class Started(Struct, frozen=True):
    """Its owner wants rounds."""


class Halted(Struct, frozen=True):
    """Its owner wants no more for now."""


class RoundCounted(Struct, frozen=True):
    """A round is complete."""


class Mustered(Struct, frozen=True):
    """Enough devices can train: they are asked to."""


class Enough(Struct, frozen=True):
    """Enough have handed in, and nobody is waited for any more."""


class TooFew(Struct, frozen=True):
    """The time is over, or nobody is left, and too few have handed in."""

    reason: str


class Summed(Struct, frozen=True):
    """The next round's model is on disk."""


# --- rules --------------------------------------------------------------------------------------

Changed = tuple[Fleet, tuple[()]]
Moved = tuple[Turn, tuple[()]]


def start(f: Fleet, e: Started) -> Changed:
    """Go on, unless all rounds are complete."""
    if f.counted >= f.rounds:
        raise RunRefused(f"{f.counted} rounds are complete, of {f.rounds}: ask for more of them first")
    return replace(f, state=RUNNING), ()


def halt(f: Fleet, e: Halted) -> Changed:
    """No further round."""
    return replace(f, state=STOPPED), ()


def count(f: Fleet, e: RoundCounted) -> Changed:
    """One more is complete; perhaps it was the last. What was stopped meanwhile stays stopped."""
    after = replace(f, counted=f.counted + 1)
    return replace(after, state=COMPLETED) if after.counted >= f.rounds else after, ()


def muster(t: Turn, e: Mustered) -> Moved:
    """From here on its clock runs."""
    return replace(t, state=COLLECTING), ()


def close(t: Turn, e: Enough) -> Moved:
    """What is here is summed."""
    return replace(t, state=AGGREGATING), ()


def fail(t: Turn, e: TooFew) -> Moved:
    """Nothing comes of it."""
    return replace(t, state=INVALID, reason=e.reason), ()


def complete(t: Turn, e: Summed) -> Moved:
    """It counts."""
    return replace(t, state=COMPLETE), ()


FLEET: Machine[Fleet, object] = Machine(
    "fleet",
    STOPPED,
    {
        (STOPPED, Started): (start, frozenset({RUNNING})),
        (STOPPED, RoundCounted): (count, frozenset({STOPPED, COMPLETED})),
        (RUNNING, Started): (start, frozenset({RUNNING})),
        (RUNNING, Halted): (halt, frozenset({STOPPED})),
        (RUNNING, RoundCounted): (count, frozenset({RUNNING, COMPLETED})),
    },
)
TURN: Machine[Turn, object] = Machine(
    "fleet round",
    WAITING,
    {
        (WAITING, Mustered): (muster, frozenset({COLLECTING})),
        (COLLECTING, Enough): (close, frozenset({AGGREGATING})),
        (COLLECTING, TooFew): (fail, frozenset({INVALID})),
        (AGGREGATING, Summed): (complete, frozenset({COMPLETE})),
        (AGGREGATING, TooFew): (fail, frozenset({INVALID})),
    },
)


# --- what is decided ----------------------------------------------------------------------------


class Powered(Struct, frozen=True):
    """What a project asks of a device's power: plugged in, or else a battery of at least `level` (0 to 1)."""

    plugged_only: bool = True
    level: float = 0.60


class Report(Struct, frozen=True):
    """A device's last word, at `at` (UTC seconds). `eligible`: it judged by itself and says no more than that."""

    at: float
    plugged: bool | None = None
    level: float | None = None
    eligible: bool | None = None


def is_eligible(report: Report | None, asks: Powered, now: float, fresh: float = FRESH) -> bool:
    """Whether a device can be asked to train: it reported within `fresh` seconds, and has the power."""
    if report is None or report.at <= now - fresh:
        return False
    return has_power(report, asks)


def has_power(report: Report, asks: Powered) -> bool:
    """Plugged in; or, where that is enough, a battery that holds. A device that judged by itself is believed."""
    if report.eligible is not None:
        return report.eligible
    if report.plugged:
        return True
    return not asks.plugged_only and report.level is not None and report.level >= asks.level


def reaches(some: int, of: int, threshold: float) -> bool:
    """Whether `some` of `of` devices are at least that share of them. Of none, nothing is."""
    return of > 0 and some / of >= threshold - SLACK


def next_event(
    *,
    asked: Collection[str],
    joined: Collection[str],
    done: Collection[str],
    failed: Collection[str],
    of: int,
    threshold: float,
    over: bool,
) -> Enough | TooFew | None:
    """What becomes of a round in which devices (by name) were asked, joined, handed in or failed; None: it goes on.

    `of` devices belong to the project; `over` says that its time is.
    """
    waited_for = (set(asked) | set(joined)) - set(done) - set(failed)
    if waited_for and not over:
        return None
    if reaches(len(done), of, threshold):
        return Enough()
    return TooFew(f"{len(done)} of {of} devices handed in" + (" in time" if over else ""))
