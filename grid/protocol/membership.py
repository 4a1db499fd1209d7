"""A membership: a lease in a directory, renewed by the node and checked by the directory.

Both ways count: whoever renews or answers a check is there. One missed check makes a member
suspect, three or the end of its lease make it offline, and a day after that it is forgotten,
so that a directory does not grow with the dead.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from grid.protocol.machine import Machine

OFFLINE_AFTER = 3
"""Failed checks in a row."""
GRACE = 24 * 3600.0
"""Seconds from the end of a lease until the member is forgotten."""


class State(StrEnum):
    """Joining: listed, not heard from since. Busy: there, and would rather not be asked for work."""

    JOINING = "joining"
    ONLINE = "online"
    BUSY = "busy"
    SUSPECT = "suspect"
    OFFLINE = "offline"
    EXPIRED = "expired"


JOINING, ONLINE, BUSY, SUSPECT, OFFLINE, EXPIRED = State
LISTED = frozenset({JOINING, ONLINE, BUSY, SUSPECT})
"""States in which a search may name the member."""


class Member(Struct, frozen=True, gc=False):  # there are thousands, and none is part of a circle
    """One member. Times are UTC seconds, `latency` seconds; `verified`: its join was signed."""

    node: str
    lease_ends: float
    verified: bool
    state: State = JOINING
    last_answer: float | None = None
    latency: float | None = None
    failures: int = 0


class Joined(Struct, frozen=True):
    """It joined again, perhaps at another address."""

    now: float
    lease: float


class Renewed(Struct, frozen=True):
    """It renewed its lease."""

    now: float
    lease: float
    busy: bool = False


class Answered(Struct, frozen=True):
    """It answered a check. `lease` keeps nodes that never renew of themselves, as the RFC's own."""

    now: float
    latency: float
    busy: bool = False
    lease: float = 0.0


class Silent(Struct, frozen=True):
    """It did not answer a check."""

    now: float


class LeaseEnded(Struct, frozen=True):
    """A timer set for the end of the lease rang."""

    now: float


class GraceEnded(Struct, frozen=True):
    """A timer set for the end of the grace rang."""

    now: float


class Left(Struct, frozen=True):
    """It said good-bye, or an operator took it out."""


class Announce(Struct, frozen=True):
    """Tell whoever listens that the member is now in this state."""

    state: State


class Forget(Struct, frozen=True):
    """Remove the member and all that is known of it."""


Effect = Announce | Forget
Outcome = tuple[Member, tuple[Effect, ...]]


def joined(node: str, now: float, lease: float, *, verified: bool) -> Member:
    """A new member: joining, until it answers a call or renews."""
    return Member(node=node, lease_ends=now + lease, verified=verified)


def due(member: Member) -> float:
    """When (UTC seconds) time alone changes this member, by `LeaseEnded` or, offline, `GraceEnded`."""
    return member.lease_ends + (GRACE if member.state == OFFLINE else 0.0)


def rejoin(m: Member, e: Joined) -> Outcome:
    """A signature shows that a verified member is there; an unsigned join anyone may have sent."""
    trusted = m.verified and m.state in {ONLINE, BUSY, SUSPECT}
    state = _present(m.state == BUSY) if trusted else JOINING
    return _become(m, replace(m, state=state, lease_ends=e.now + e.lease, failures=0))


def renew(m: Member, e: Renewed) -> Outcome:
    """The lease runs from now."""
    return _become(m, replace(m, state=_present(e.busy), lease_ends=e.now + e.lease, failures=0))


def answer(m: Member, e: Answered) -> Outcome:
    """It is there, and how far away."""
    ends = max(m.lease_ends, e.now + e.lease)
    heard = replace(m, lease_ends=ends, last_answer=e.now, latency=e.latency, failures=0)
    return _become(m, replace(heard, state=_present(e.busy)))


def miss(m: Member, e: Silent) -> Outcome:
    """One failed check more; a member that never answered stays joining until it counts as offline."""
    failures = min(m.failures + 1, OFFLINE_AFTER)
    doubted = m.state if m.state in {JOINING, OFFLINE} else SUSPECT
    return _become(m, replace(m, state=OFFLINE if failures >= OFFLINE_AFTER else doubted, failures=failures))


def lapse(m: Member, e: LeaseEnded) -> Outcome:
    """Offline, unless it was renewed since the timer was set."""
    return (m, ()) if e.now < m.lease_ends else _become(m, replace(m, state=OFFLINE))


def expire(m: Member, e: GraceEnded) -> Outcome:
    """Forgotten, unless the timer was set for an earlier lease."""
    return (m, ()) if e.now < m.lease_ends + GRACE else leave(m, e)


def leave(m: Member, e: Left | GraceEnded) -> Outcome:
    """Nothing of it stays."""
    return replace(m, state=EXPIRED), (Announce(EXPIRED), Forget())


def _present(busy: bool) -> State:
    return BUSY if busy else ONLINE


def _become(before: Member, after: Member) -> Outcome:
    """A change of state is announced; a mere renewal is not."""
    return after, () if after.state == before.state else (Announce(after.state),)


HERE = frozenset({ONLINE, BUSY})
GONE = frozenset({EXPIRED})

MEMBERSHIP: Machine[Member, Effect] = Machine(
    "member",
    JOINING,
    {
        (JOINING, Joined): (rejoin, frozenset({JOINING})),
        (JOINING, Renewed): (renew, HERE),
        (JOINING, Answered): (answer, HERE),
        (JOINING, Silent): (miss, frozenset({JOINING, OFFLINE})),
        (JOINING, LeaseEnded): (lapse, frozenset({JOINING, OFFLINE})),
        (JOINING, Left): (leave, GONE),
        (ONLINE, Joined): (rejoin, frozenset({ONLINE, JOINING})),
        (ONLINE, Renewed): (renew, HERE),
        (ONLINE, Answered): (answer, HERE),
        (ONLINE, Silent): (miss, frozenset({SUSPECT})),
        (ONLINE, LeaseEnded): (lapse, frozenset({ONLINE, OFFLINE})),
        (ONLINE, Left): (leave, GONE),
        (BUSY, Joined): (rejoin, frozenset({BUSY, JOINING})),
        (BUSY, Renewed): (renew, HERE),
        (BUSY, Answered): (answer, HERE),
        (BUSY, Silent): (miss, frozenset({SUSPECT})),
        (BUSY, LeaseEnded): (lapse, frozenset({BUSY, OFFLINE})),
        (BUSY, Left): (leave, GONE),
        (SUSPECT, Joined): (rejoin, frozenset({ONLINE, JOINING})),
        (SUSPECT, Renewed): (renew, HERE),
        (SUSPECT, Answered): (answer, HERE),
        (SUSPECT, Silent): (miss, frozenset({SUSPECT, OFFLINE})),
        (SUSPECT, LeaseEnded): (lapse, frozenset({SUSPECT, OFFLINE})),
        (SUSPECT, Left): (leave, GONE),
        (OFFLINE, Joined): (rejoin, frozenset({JOINING})),
        (OFFLINE, Renewed): (renew, HERE),
        (OFFLINE, Answered): (answer, HERE),
        (OFFLINE, Silent): (miss, frozenset({OFFLINE})),
        (OFFLINE, GraceEnded): (expire, frozenset({OFFLINE, EXPIRED})),
        (OFFLINE, Left): (leave, GONE),
    },
)
advance = MEMBERSHIP.advance
