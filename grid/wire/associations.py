"""Associations of nodes and networks, and the statistics that an associated network may read."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from grid.wire.directory import Done
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.message import Document, Message
from grid.wire.names import Address, Count, Digest, NodeId, PublicKey, Seconds
from grid.wire.problems import (
    AddressRefused,
    AssociationRefused,
    BadSignature,
    NotFound,
    OutOfTurn,
    Replayed,
    TooManyRequests,
    Unreachable,
)
from grid.wire.rights import Right
from grid.wire.session import Role

PROPOSAL, WORD = "association-proposal", "association-word"
"""The signing domains of `Proposal` and `Word`."""

Why = Annotated[str, Meta(max_length=1024)]
State = Literal["asked", "received", "active", "denied", "ended", "lapsed"]


class Proposal(Document, frozen=True):
    """One daemon asks another, which it names by its key, to be associated with it. `nonce` makes it one of a kind."""

    asker: PublicKey
    role: Role
    name: NodeId
    address: Address
    asked: PublicKey
    nonce: Annotated[str, Meta(min_length=22, max_length=64)]
    created: Seconds
    expires: Seconds


class Word(Document, frozen=True):
    """What a daemon says of the proposal with this digest, to the daemon that has the key `to`."""

    proposal: Digest
    word: Literal["mine", "accepted", "denied", "ended", "pending"]
    to: PublicKey
    at: Seconds
    why: Why = ""


class Propose(Message, frozen=True):
    """A proposal, as its asker signed it."""

    proposal: Signed


class Said(Message, frozen=True):
    """A word, as whose it is signed it."""

    word: Signed


class Challenge(Message, frozen=True):
    """Did you propose this? Asked at the address in it, of the key in it."""

    proposal: Digest


class AskFor(Message, frozen=True):
    """Ask the daemon at an address to be associated; `public_key`: the only one that will do there."""

    address: Address
    public_key: PublicKey | None = None


class Decision(Message, frozen=True):
    """What the people of the side that was asked say."""

    accept: bool
    why: Why = ""


class AssociationInfo(Message, frozen=True):
    """An association as one side has it."""

    id: Digest
    peer: PublicKey
    name: str
    role: Role
    address: Address
    state: State
    changed: Seconds
    expires: Seconds
    why: Why = ""


class Associations(Message, frozen=True):
    """All of a daemon, newest first."""

    associations: tuple[AssociationInfo, ...]


class Hour(Message, frozen=True):
    """What was trained here within one hour: `at` is its beginning (UTC seconds)."""

    at: Seconds
    rounds: Count
    examples: Count


class BudgetUse(Message, frozen=True):
    """How much of a budget on a dataset is spent or reserved, in epsilon."""

    dataset: str
    subject: str
    epsilon: float
    spent: float


class Statistics(Message, frozen=True):
    """Counts and use of a node: nothing of its data, of its people, or of what was asked."""

    datasets: Count
    tensors: Count
    tags: Count
    accounts: Count
    groups: Count
    roles: Count
    requests: dict[str, Count]
    runs: dict[str, Count]
    workers: Count
    workers_busy: Count
    budgets: tuple[BudgetUse, ...]
    activity: tuple[Hour, ...]


PROPOSE = Endpoint(
    "POST",
    "/v1/associations",
    Propose,
    Said,
    about="Ask this daemon to be associated; the same proposal again: what became of it",
    limit=8192,
    deadline=30.0,
    problems=(AddressRefused, AssociationRefused, BadSignature, Replayed, TooManyRequests, Unreachable),
)
CHALLENGE = Endpoint(
    "POST", "/v1/associations/challenge", Challenge, Said, about="Did this daemon propose that", problems=(NotFound,)
)
TELL = Endpoint(
    "POST",
    "/v1/associations/word",
    Said,
    Done,
    about="The other side of an association accepts, denies or ends it",
    limit=8192,
    problems=(BadSignature, NotFound, OutOfTurn),
)
ASSOCIATIONS: Endpoint[None, Associations] = Endpoint(
    "GET",
    "/v1/associations",
    gives=Associations,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="All associations of this daemon",
    deadline=30.0,
)
ASK_FOR = Endpoint(
    "POST",
    "/v1/associations/asked",
    AskFor,
    AssociationInfo,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="Ask another daemon to be associated",
    deadline=60.0,
    problems=(AddressRefused, AssociationRefused, Unreachable),
)
DECIDE = Endpoint(
    "POST",
    "/v1/associations/{id}/decision",
    Decision,
    AssociationInfo,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="Accept or deny an association",
    deadline=30.0,
    problems=(NotFound, OutOfTurn),
)
END: Endpoint[None, AssociationInfo] = Endpoint(
    "DELETE",
    "/v1/associations/{id}",
    gives=AssociationInfo,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="End an association",
    deadline=30.0,
    problems=(NotFound, OutOfTurn),
)
STATISTICS: Endpoint[None, Statistics] = Endpoint(
    "GET",
    "/v1/statistics",
    gives=Statistics,
    who="signed",
    about="Counts and use of this node, for its administrators and for networks that it is associated with",
)
STATISTICS_OF: Endpoint[None, Statistics] = Endpoint(
    "GET",
    "/v1/associations/{id}/statistics",
    gives=Statistics,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="Counts and use of an associated node",
    deadline=30.0,
    problems=(NotFound, Unreachable),
)
