"""One round: who is asked, whose updates are in, when it closes, whether it counts.

A round closes when its target is reached, when nobody is left to wait for, or at its deadline.
Closing means that no upload begins any more, while those under way get a grace to arrive; what
has arrived by then is summed. Fewer updates than the quorum make the round invalid, as soon as
that is certain.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import StrEnum

from msgspec import Struct, field
from msgspec.structs import replace

from grid.protocol.machine import Machine
from grid.protocol.spread import added, forgotten, noted, removed
from grid.wire.problems import NoParticipants, NotInvited, RoundClosed, RunRefused, UpdateRefused, UpdateRepeated


class State(StrEnum):
    """Waiting: nobody has committed yet."""

    WAITING = "waiting"
    COLLECTING = "collecting"
    CLOSING = "closing"
    AGGREGATING = "aggregating"
    COMPLETE = "complete"
    INVALID = "invalid"


WAITING, COLLECTING, CLOSING, AGGREGATING, COMPLETE, INVALID = State


class Policy(Struct, frozen=True):
    """When a round counts and when it closes.

    quorum: the fewest updates that make it count; target: as many close it at once;
    deadline: seconds from its opening; grace: seconds beyond it for uploads that had begun.
    """

    quorum: int
    target: int
    deadline: float
    grace: float = 10.0


class Round(Struct, frozen=True):
    """A round as its coordinator knows it. Nodes are named by id, times are UTC seconds.

    `ends` is when the present stage is over; `accepted` gives each counted node the weight of its
    update, in the order of arrival; `rejected` and `failed` say why. No node is in two of these three.
    `arrived` are those among `uploading` whose update is here as a whole, and not yet judged.
    All of these are replaced, never changed; of many nodes only a part is copied then (`grid.protocol.spread`).
    """

    number: int
    policy: Policy
    invited: frozenset[str]
    opened: float
    ends: float
    state: State = WAITING
    committed: Set[str] = frozenset()
    uploading: Set[str] = frozenset()
    arrived: Set[str] = frozenset()
    accepted: Mapping[str, float] = field(default_factory=dict)
    rejected: Mapping[str, str] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    reason: str = ""

    @property
    def pending(self) -> int:
        """How many invited nodes have neither been counted nor refused nor failed."""
        return len(self.invited) - len(self.accepted) - len(self.rejected) - len(self.failed)


class NodeCommitted(Struct, frozen=True):
    """A node takes part; after a failure, again."""

    node: str


class UploadBegan(Struct, frozen=True):
    """A node's update begins to arrive."""

    node: str
    at: float


class UploadArrived(Struct, frozen=True):
    """All of an update is here: from now on neither the grace nor its node's silence can lose it."""

    node: str


class UploadBroken(Struct, frozen=True):
    """An upload ended before its end, or does not open; the node may begin again while the round collects."""

    node: str


class SpareDrawn(Struct, frozen=True):
    """A node that was not drawn at first is invited, so that the round does not fall short of its target."""

    node: str


class UpdateAccepted(Struct, frozen=True):
    """A whole update was checked and is on disk. `weight`: the examples it stands for."""

    node: str
    weight: float
    at: float


class UpdateRejected(Struct, frozen=True):
    """A whole update arrived and cannot be counted."""

    node: str
    reason: str


class NodeFailed(Struct, frozen=True):
    """A node is gone, or its training failed."""

    node: str
    reason: str


class DeadlinePassed(Struct, frozen=True):
    """A timer set for `Round.ends` rang."""

    at: float


class SumReady(Struct, frozen=True):
    """The next checkpoint is on disk."""


class SumFailed(Struct, frozen=True):
    """The updates could not be summed."""

    reason: str


class Stopped(Struct, frozen=True):
    """The run was stopped."""

    reason: str = "stopped"


class Resumed(Struct, frozen=True):
    """The coordinator is back after a stop: uploads under way are lost, effects owed are given again."""


class WakeAt(Struct, frozen=True):
    """Send `DeadlinePassed` at this time."""

    at: float


class Sum(Struct, frozen=True):
    """Aggregate these updates: (node, weight) in the order of arrival."""

    updates: tuple[tuple[str, float], ...]


class Refuse(Struct, frozen=True):
    """Break off the uploads of these nodes: their grace is over."""

    nodes: tuple[str, ...]


class Publish(Struct, frozen=True):
    """The round is complete: hand out its checkpoint."""


class Abandon(Struct, frozen=True):
    """The round is invalid: nothing of it is used."""

    reason: str


Effect = WakeAt | Sum | Refuse | Publish | Abandon
Outcome = tuple[Round, tuple[Effect, ...]]


def open_round(number: int, policy: Policy, invited: frozenset[str], at: float) -> Round:
    """A new round that waits for its first node; its deadline is at `ends`.

    Raises:
        RunRefused: the policy contradicts itself.
        NoParticipants: fewer nodes are invited than the quorum.
    """
    if not 1 <= policy.quorum <= policy.target or not policy.deadline > 0:
        raise RunRefused("a round needs 1 <= quorum <= target and a deadline after its opening")
    if len(invited) < policy.quorum:
        raise NoParticipants(f"{len(invited)} nodes take part, the quorum is {policy.quorum}")
    return Round(number=number, policy=policy, invited=invited, opened=at, ends=at + policy.deadline)


# --- guards: what a node is told when it asks ------------------------------------------------


def admit_commit(r: Round, node: str) -> None:
    """Whether a node may take part now.

    Raises:
        NotInvited, RoundClosed
    """
    _invited(r, node)
    if r.state not in {WAITING, COLLECTING}:
        raise RoundClosed(f"round {r.number} is {r.state}")


def admit_update(r: Round, node: str, now: float) -> None:
    """Whether a node may begin to hand in its update now.

    Raises:
        NotInvited, RoundClosed
        UpdateRepeated: its update was accepted, or is arriving at this moment (`retry_after`).
        UpdateRefused: its update was rejected, which is final for the round.
    """
    _invited(r, node)
    # Before the state: whoever lost our answer and asks again learns that it was counted.
    if node in r.accepted:
        raise UpdateRepeated
    if node in r.rejected:
        raise UpdateRefused(r.rejected[node])
    admit_commit(r, node)
    if now > r.ends:
        raise RoundClosed(f"the deadline of round {r.number} has passed")
    if node in r.uploading:
        raise UpdateRepeated("this node's update is arriving at this moment", retry_after=1.0)


def admit_result(r: Round, node: str) -> None:
    """Whether an upload that was let in may still be counted, now that all of it is here.

    Raises:
        NotInvited, RoundClosed
    """
    _invited(r, node)
    if r.state not in {COLLECTING, CLOSING} or node not in r.uploading:
        raise RoundClosed(f"round {r.number} no longer waits for this upload")


def settled(r: Round) -> bool:
    """Whether there is nothing more to wait for, or nothing that would help."""
    enough = len(r.accepted) >= r.policy.target
    return enough or not r.pending or len(r.accepted) + r.pending < r.policy.quorum


def needs(r: Round, node: str) -> bool:
    """Whether the round cannot count any more if it has to do without a node."""
    awaited = not (node in r.accepted or node in r.rejected or node in r.failed)
    open_ = r.state in {WAITING, COLLECTING}
    return open_ and node in r.invited and awaited and len(r.accepted) + r.pending <= r.policy.quorum


def lacking(r: Round) -> bool:
    """Whether the round will fall short of its target, whatever comes of those it still waits for."""
    return r.state in {WAITING, COLLECTING} and len(r.accepted) + r.pending < r.policy.target


def falls_short(r: Round, e: NodeFailed | UpdateRejected) -> bool:
    """Whether the round is still waiting for a node that is being lost, and lacks its target without it."""
    if e.node not in r.invited or e.node in r.accepted or e.node in r.rejected or e.node in r.failed:
        return False
    if isinstance(e, NodeFailed) and e.node in r.arrived:  # its update is judged all the same
        return False
    return r.state in {WAITING, COLLECTING} and len(r.accepted) + r.pending <= r.policy.target


def why_closed(r: Round) -> str:
    """Why a round that has just closed takes no more updates, for whoever comes too late."""
    if r.state == INVALID:
        return r.reason
    if len(r.accepted) >= r.policy.target:
        return f"its target of {r.policy.target} updates was reached"
    if not r.pending:
        return "there was nobody left to wait for"
    return f"its deadline of {r.policy.deadline:g} s had passed"


def _invited(r: Round, node: str) -> None:
    if node not in r.invited:
        raise NotInvited


# --- rules ------------------------------------------------------------------------------------


def commit(r: Round, e: NodeCommitted) -> Outcome:
    """A node that failed may come back; one that was counted or refused is done."""
    admit_commit(r, e.node)
    return _welcome(r, e.node), ()


def draw_spare(r: Round, e: SpareDrawn) -> Outcome:
    """Invite one more; whoever is invited already stays as it is."""
    return (r, ()) if e.node in r.invited else (replace(r, invited=r.invited | {e.node}), ())


def begin(r: Round, e: UploadBegan) -> Outcome:
    """An upload begins, which also commits its node."""
    admit_update(r, e.node, e.at)
    return replace(_welcome(r, e.node), uploading=added(r.uploading, e.node)), ()


def arrive(r: Round, e: UploadArrived) -> Outcome:
    """Between here and the judgement the update is made durable: nothing else may decide on it meanwhile."""
    admit_result(r, e.node)
    return replace(r, arrived=added(r.arrived, e.node)), ()


def break_off(r: Round, e: UploadBroken) -> Outcome:
    """While the round collects the node may try again; afterwards it is too late."""
    if e.node not in r.uploading:
        return r, ()
    if r.state == CLOSING:
        return _settle(_failed(r, e.node, "its upload broke off and the round is closing"))
    return _judged(r, e.node), ()


def accept(r: Round, e: UpdateAccepted) -> Outcome:
    """Count an update."""
    admit_result(r, e.node)
    return _settle(replace(_judged(r, e.node), accepted=noted(r.accepted, e.node, e.weight)), e.at)


def reject(r: Round, e: UpdateRejected) -> Outcome:
    """Refuse an update for good."""
    admit_result(r, e.node)
    return _settle(replace(_judged(r, e.node), rejected=noted(r.rejected, e.node, e.reason)))


def fail(r: Round, e: NodeFailed) -> Outcome:
    """No longer wait for a node. What arrived of it is judged, what was accepted stays accepted."""
    _invited(r, e.node)
    if e.node in r.accepted or e.node in r.rejected or e.node in r.arrived:
        return r, ()
    return _settle(_failed(r, e.node, e.reason))


def expire(r: Round, e: DeadlinePassed) -> Outcome:
    """Close at the deadline."""
    return (r, ()) if e.at < r.ends else _close(r, e.at)


def cut_off(r: Round, e: DeadlinePassed) -> Outcome:
    """The grace is over: whoever still uploads is too late."""
    if e.at < r.ends:  # the timer of the deadline, in a round that closed early
        return r, ()
    late = tuple(sorted(r.uploading - r.arrived))
    for node in late:
        r = _failed(r, node, "its upload took longer than the grace")
    after, effects = _drain(r)
    return after, (Refuse(late), *effects) if late else effects


def publish(r: Round, e: SumReady) -> Outcome:
    """The round counts."""
    return replace(r, state=COMPLETE), (Publish(),)


def abandon(r: Round, e: SumFailed | Stopped) -> Outcome:
    """The round does not count."""
    return _give_up(r, e.reason)


def resume(r: Round, e: Resumed) -> Outcome:
    """Go on with what was accepted; a node whose upload was lost may begin again, unless the round is closing."""
    if r.state == AGGREGATING:
        return r, (Sum(tuple(r.accepted.items())),)
    if r.state == CLOSING:
        for node in r.uploading:
            r = _failed(r, node, "its upload was lost when the coordinator stopped")
        return _drain(r)
    return replace(r, uploading=frozenset(), arrived=frozenset()), (WakeAt(r.ends),)


def ignore(r: Round, e: object) -> Outcome:
    """Too late to matter."""
    return r, ()


def _welcome(r: Round, node: str) -> Round:
    committed, failed = added(r.committed, node), forgotten(r.failed, node)
    return replace(r, state=COLLECTING, committed=committed, failed=failed)


def _failed(r: Round, node: str, reason: str) -> Round:
    return replace(_judged(r, node), failed=noted(r.failed, node, reason))


def _judged(r: Round, node: str) -> Round:
    return replace(r, uploading=removed(r.uploading, node), arrived=removed(r.arrived, node))


def _settle(r: Round, at: float = 0.0) -> Outcome:
    """Close if there is nothing more to wait for; give up if the quorum is out of reach."""
    if r.state == CLOSING:
        return _drain(r)
    if len(r.accepted) + r.pending < r.policy.quorum:
        return _give_up(r, _short(r))
    if r.pending and len(r.accepted) < r.policy.target:
        return r, ()
    return _close(r, at)


def _close(r: Round, at: float) -> Outcome:
    """No upload begins from here on."""
    after, effects = _drain(replace(r, state=CLOSING, ends=at + r.policy.grace))
    return after, effects or (WakeAt(after.ends),)


def _drain(r: Round) -> Outcome:
    """Once the last upload under way has settled, sum what there is."""
    if len(r.accepted) + len(r.uploading) < r.policy.quorum:
        return _give_up(r, _short(r))
    if r.uploading:
        return r, ()
    return replace(r, state=AGGREGATING), (Sum(tuple(r.accepted.items())),)


def _short(r: Round) -> str:
    return f"{len(r.accepted)} updates of {len(r.invited)} nodes, the quorum is {r.policy.quorum}"


def _give_up(r: Round, reason: str) -> Outcome:
    return replace(r, state=INVALID, uploading=frozenset(), arrived=frozenset(), reason=reason), (Abandon(reason),)


_INVALID = frozenset({INVALID})
_OPEN = frozenset({COLLECTING})
_OVER = frozenset({AGGREGATING, INVALID})
_SUM = frozenset({AGGREGATING})

ROUND: Machine[Round, Effect] = Machine(
    "round",
    WAITING,
    {
        (WAITING, NodeCommitted): (commit, _OPEN),
        (WAITING, SpareDrawn): (draw_spare, frozenset({WAITING})),
        (WAITING, UploadBegan): (begin, _OPEN),
        (WAITING, NodeFailed): (fail, _INVALID | {WAITING}),
        (WAITING, DeadlinePassed): (expire, _INVALID | {WAITING}),
        (WAITING, Resumed): (resume, frozenset({WAITING})),
        (WAITING, Stopped): (abandon, _INVALID),
        (COLLECTING, NodeCommitted): (commit, _OPEN),
        (COLLECTING, SpareDrawn): (draw_spare, _OPEN),
        (COLLECTING, UploadBegan): (begin, _OPEN),
        (COLLECTING, UploadArrived): (arrive, _OPEN),
        (COLLECTING, UploadBroken): (break_off, _OPEN),
        (COLLECTING, UpdateAccepted): (accept, _OPEN | {CLOSING, AGGREGATING}),
        (COLLECTING, UpdateRejected): (reject, _OPEN | _OVER),
        (COLLECTING, NodeFailed): (fail, _OPEN | _OVER),
        (COLLECTING, DeadlinePassed): (expire, _OPEN | _OVER | {CLOSING}),
        (COLLECTING, Resumed): (resume, _OPEN),
        (COLLECTING, Stopped): (abandon, _INVALID),
        (CLOSING, UploadArrived): (arrive, frozenset({CLOSING})),
        (CLOSING, UploadBroken): (break_off, _OVER | {CLOSING}),
        (CLOSING, UpdateAccepted): (accept, _SUM | {CLOSING}),
        (CLOSING, UpdateRejected): (reject, _OVER | {CLOSING}),
        (CLOSING, NodeFailed): (fail, _OVER | {CLOSING}),
        (CLOSING, DeadlinePassed): (cut_off, _OVER | {CLOSING}),
        (CLOSING, Resumed): (resume, _OVER),
        (CLOSING, Stopped): (abandon, _INVALID),
        (AGGREGATING, NodeFailed): (ignore, _SUM),
        (AGGREGATING, DeadlinePassed): (ignore, _SUM),
        (AGGREGATING, SumReady): (publish, frozenset({COMPLETE})),
        (AGGREGATING, SumFailed): (abandon, _INVALID),
        (AGGREGATING, Resumed): (resume, _SUM),
        (AGGREGATING, Stopped): (abandon, _INVALID),
    },
)
advance = ROUND.advance
