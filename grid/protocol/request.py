"""A request for access: somebody asks, gives a reason, and an officer decides; what was accepted is used, or lapses.

Source: PyGrid's roadmap (data-centric FL, #213): a queue with reasons and evidence, over budget is denied by itself.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine
from grid.wire.requests import Ask, Training


class State(StrEnum):
    """Released: it was used for what it was made for. Lapsed: its time was over before that."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    DENIED = "denied"
    WITHDRAWN = "withdrawn"
    AUTO_DENIED = "auto-denied"
    RELEASED = "released"
    LAPSED = "lapsed"


PENDING, ACCEPTED, DENIED, WITHDRAWN, AUTO_DENIED, RELEASED, LAPSED = State


class Request(Struct, frozen=True):
    """Request `id` of an `account`, good until `expires` (UTC seconds); `by` whom it was decided, and `why`."""

    id: int
    account: str
    asked: Ask
    created: float
    expires: float
    state: State = PENDING
    by: str = ""
    why: str = ""
    changed: float = 0.0
    run: str = ""


class Accepted(Struct, frozen=True):
    """An officer grants it, until `expires`."""

    by: str
    why: str
    at: float
    expires: float


class Denied(Struct, frozen=True):
    """An officer does not."""

    by: str
    why: str
    at: float


class OverBudget(Struct, frozen=True):
    """It costs more privacy than is left: nobody has to decide."""

    why: str
    at: float


class Withdrawn(Struct, frozen=True):
    """Who asked does not want it any more."""

    at: float


class Used(Struct, frozen=True):
    """What it was made for was done; a training: by this `run`."""

    at: float
    run: str = ""


class TimeOver(Struct, frozen=True):
    """The clock came to `expires`."""

    at: float


class Grant(Struct, frozen=True):
    """Let the account have what it asked for."""


class TakeBack(Struct, frozen=True):
    """Let it have that no longer."""


Effect = Grant | TakeBack
Outcome = tuple[Request, tuple[Effect, ...]]


def accept(r: Request, e: Accepted) -> Outcome:
    """It is granted."""
    after = replace(r, state=ACCEPTED, by=e.by, why=e.why, changed=e.at, expires=e.expires)
    return after, (Grant(),)


def deny(r: Request, e: Denied) -> Outcome:
    """It is not."""
    return replace(r, state=DENIED, by=e.by, why=e.why, changed=e.at), ()


def over_budget(r: Request, e: OverBudget) -> Outcome:
    """The ledger denies it."""
    return replace(r, state=AUTO_DENIED, by="ledger", why=e.why, changed=e.at), ()


def withdraw(r: Request, e: Withdrawn) -> Outcome:
    """What was granted is taken back."""
    granted = (TakeBack(),) if r.state == ACCEPTED else ()
    return replace(r, state=WITHDRAWN, changed=e.at), granted


def use(r: Request, e: Used) -> Outcome:
    """It has served."""
    return replace(r, state=RELEASED, changed=e.at, run=e.run or r.run), ()


def lapse(r: Request, e: TimeOver) -> Outcome:
    """Nobody decided in time, or what was granted was not used in time. A timer of an earlier end says nothing."""
    if e.at < r.expires:
        return r, ()
    granted = (TakeBack(),) if r.state in {ACCEPTED, RELEASED} else ()
    return replace(r, state=LAPSED, changed=e.at), granted


REQUEST: Machine[Request, Effect] = Machine(
    "request",
    PENDING,
    {
        (PENDING, Accepted): (accept, frozenset({ACCEPTED})),
        (PENDING, Denied): (deny, frozenset({DENIED})),
        (PENDING, OverBudget): (over_budget, frozenset({AUTO_DENIED})),
        (PENDING, Withdrawn): (withdraw, frozenset({WITHDRAWN})),
        (PENDING, TimeOver): (lapse, frozenset({PENDING, LAPSED})),
        (ACCEPTED, Used): (use, frozenset({RELEASED})),
        (ACCEPTED, Withdrawn): (withdraw, frozenset({WITHDRAWN})),
        (ACCEPTED, TimeOver): (lapse, frozenset({ACCEPTED, LAPSED})),
        (RELEASED, TimeOver): (lapse, frozenset({RELEASED, LAPSED})),
    },
)
advance = REQUEST.advance


def likeness(training: Training) -> str:
    """What trainings that ask for the same have in common: SHA-256 of the plan and all that decides what it does."""
    t = training  # all of it, by itself: what is left out of a message as usual depends on where it comes from
    said = msgspec.json.encode((t.plan, t.rounds, t.inputs, t.target, t.holdout, t.strategy), order="sorted")
    return hashlib.sha256(said).hexdigest()
