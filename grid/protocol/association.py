"""An association of a node and a network: one asks, the other side's people decide, and either ends it.

What one side asked is a signed proposal; its digest names the association on both sides, so a proposal that comes again
finds what became of it and changes nothing.

Source: PyGrid's roadmap (associations between node and network), whose handshake anybody could answer.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine


class State(StrEnum):
    """Asked: we did, and wait. Received: they did, and our people decide."""

    ASKED = "asked"
    RECEIVED = "received"
    ACTIVE = "active"
    DENIED = "denied"
    ENDED = "ended"
    LAPSED = "lapsed"


ASKED, RECEIVED, ACTIVE, DENIED, ENDED, LAPSED = State


class Association(Struct, frozen=True):
    """With the daemon that has the key `peer` and answers at `address`; its proposal is open until `expires`."""

    id: str
    peer: str
    name: str
    role: str
    address: str
    expires: float
    state: State
    why: str = ""
    changed: float = 0.0


class Proposed(Struct, frozen=True):
    """Where it begins: we ask, or a proposal of theirs was proved."""

    ours: bool
    at: float


class Accepted(Struct, frozen=True):
    """The side that was asked accepts."""

    at: float


class Refused(Struct, frozen=True):
    """It does not."""

    why: str
    at: float


class Ended(Struct, frozen=True):
    """Either side has had enough."""

    why: str
    at: float


class TimeOver(Struct, frozen=True):
    """Nobody decided in time."""

    at: float


Outcome = tuple[Association, tuple[object, ...]]


def accept(a: Association, e: Accepted) -> Outcome:
    """Both sides have agreed."""
    return replace(a, state=ACTIVE, changed=e.at), ()


def refuse(a: Association, e: Refused) -> Outcome:
    """One has not."""
    return replace(a, state=DENIED, why=e.why, changed=e.at), ()


def end(a: Association, e: Ended) -> Outcome:
    """It is over for good; to begin again takes a new proposal."""
    return replace(a, state=ENDED, why=e.why, changed=e.at), ()


def lapse(a: Association, e: TimeOver) -> Outcome:
    """The proposal's time is over."""
    return (a, ()) if e.at < a.expires else (replace(a, state=LAPSED, changed=e.at), ())


ASSOCIATION: Machine[Association, object] = Machine(
    "association",
    ASKED,
    {
        (ASKED, Proposed): (
            lambda a, e: (replace(a, state=ASKED if e.ours else RECEIVED, changed=e.at), ()),
            frozenset({ASKED, RECEIVED}),
        ),
        (ASKED, Accepted): (accept, frozenset({ACTIVE})),
        (ASKED, Refused): (refuse, frozenset({DENIED})),
        (ASKED, Ended): (end, frozenset({ENDED})),
        (ASKED, TimeOver): (lapse, frozenset({ASKED, LAPSED})),
        (RECEIVED, Accepted): (accept, frozenset({ACTIVE})),
        (RECEIVED, Refused): (refuse, frozenset({DENIED})),
        (RECEIVED, Ended): (end, frozenset({ENDED})),
        (RECEIVED, TimeOver): (lapse, frozenset({RECEIVED, LAPSED})),
        (ACTIVE, Ended): (end, frozenset({ENDED})),
    },
)
advance = ASSOCIATION.advance
