"""An assignment: one node's part in one round, from the invitation to what became of its update.

A step may be skipped (a coordinator does not see all that a node does) and, up to the upload, taken
again: a node that was restarted commits, fetches or trains anew. What was accepted stays accepted.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine


class State(StrEnum):
    """Uploaded: the whole update is here, and not yet judged."""

    INVITED = "invited"
    COMMITTED = "committed"
    FETCHED = "fetched"
    TRAINING = "training"
    UPLOADED = "uploaded"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    FAILED = "failed"
    EXPIRED = "expired"


INVITED, COMMITTED, FETCHED, TRAINING, UPLOADED, ACCEPTED, REJECTED, FAILED, EXPIRED = State


class Assignment(Struct, frozen=True):
    """Node `node` in round `round` of run `run`; `reason` says why it was rejected or failed."""

    run: str
    round: int
    node: str
    state: State = INVITED
    reason: str = ""


class Committed(Struct, frozen=True):
    """The node takes part; after a failure, again."""


class Fetched(Struct, frozen=True):
    """It has the round's model."""


class TrainingStarted(Struct, frozen=True):
    """Its worker took its first step."""


class Uploaded(Struct, frozen=True):
    """All of its update arrived."""


class Accepted(Struct, frozen=True):
    """The update is on disk and counted."""


class Rejected(Struct, frozen=True):
    """The update cannot be counted."""

    reason: str


class Failed(Struct, frozen=True):
    """The node is gone, or could not train."""

    reason: str


class Expired(Struct, frozen=True):
    """The round went on without it."""

    reason: str = ""


Outcome = tuple[Assignment, tuple[()]]


def commit(a: Assignment, e: Committed) -> Outcome:
    """From the beginning, again if need be."""
    return replace(a, state=COMMITTED, reason=""), ()


def fetch(a: Assignment, e: Fetched) -> Outcome:
    """Whoever fetches has committed."""
    return replace(a, state=FETCHED), ()


def train(a: Assignment, e: TrainingStarted) -> Outcome:
    """Training runs."""
    return replace(a, state=TRAINING), ()


def upload(a: Assignment, e: Uploaded) -> Outcome:
    """Now it is the coordinator's turn."""
    return replace(a, state=UPLOADED), ()


def accept(a: Assignment, e: Accepted) -> Outcome:
    """Counted."""
    return replace(a, state=ACCEPTED), ()


def end(a: Assignment, e: Rejected | Failed | Expired) -> Outcome:
    """Not counted, and why."""
    state = {Rejected: REJECTED, Failed: FAILED, Expired: EXPIRED}[type(e)]
    return replace(a, state=state, reason=e.reason), ()


ASSIGNMENT: Machine[Assignment, object] = Machine(
    "assignment",
    INVITED,
    {
        (INVITED, Committed): (commit, frozenset({COMMITTED})),
        (INVITED, Fetched): (fetch, frozenset({FETCHED})),
        (INVITED, Failed): (end, frozenset({FAILED})),
        (INVITED, Expired): (end, frozenset({EXPIRED})),
        (COMMITTED, Committed): (commit, frozenset({COMMITTED})),
        (COMMITTED, Fetched): (fetch, frozenset({FETCHED})),
        (COMMITTED, Uploaded): (upload, frozenset({UPLOADED})),
        (COMMITTED, Failed): (end, frozenset({FAILED})),
        (COMMITTED, Expired): (end, frozenset({EXPIRED})),
        (FETCHED, Committed): (commit, frozenset({COMMITTED})),
        (FETCHED, Fetched): (fetch, frozenset({FETCHED})),
        (FETCHED, TrainingStarted): (train, frozenset({TRAINING})),
        (FETCHED, Uploaded): (upload, frozenset({UPLOADED})),
        (FETCHED, Failed): (end, frozenset({FAILED})),
        (FETCHED, Expired): (end, frozenset({EXPIRED})),
        (TRAINING, Committed): (commit, frozenset({COMMITTED})),
        (TRAINING, Fetched): (fetch, frozenset({FETCHED})),
        (TRAINING, TrainingStarted): (train, frozenset({TRAINING})),
        (TRAINING, Uploaded): (upload, frozenset({UPLOADED})),
        (TRAINING, Failed): (end, frozenset({FAILED})),
        (TRAINING, Expired): (end, frozenset({EXPIRED})),
        (UPLOADED, Accepted): (accept, frozenset({ACCEPTED})),
        (UPLOADED, Rejected): (end, frozenset({REJECTED})),
        (UPLOADED, Failed): (end, frozenset({FAILED})),
        (UPLOADED, Expired): (end, frozenset({EXPIRED})),
        (FAILED, Committed): (commit, frozenset({COMMITTED})),
        (FAILED, Fetched): (fetch, frozenset({FETCHED})),
        (FAILED, Uploaded): (upload, frozenset({UPLOADED})),
        (FAILED, Expired): (end, frozenset({EXPIRED})),
    },
)
advance = ASSIGNMENT.advance
