"""One secure sum: what the nodes of a round and its coordinator say to each other.

Every step is asked for again until it is over: an answer without content means "not yet". Whoever asks repeats what it
said, and the first word of it counts.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from grid.wire.directory import Done
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.message import Document, Message
from grid.wire.names import Digest, PublicKey
from grid.wire.problems import NotInvited, RoundClosed, RunNotFound, SumRefused
from grid.wire.runs import Number, RunId

KEYS, SURVIVORS = "grid/sum-keys", "grid/sum-survivors"
"""What the two documents are signed for."""

WAIT = 20.0
"""Seconds for which a step is waited for before the answer is "not yet"."""

SumId = Annotated[int, Meta(ge=0, lt=2**31)]
Key = Annotated[bytes, Meta(min_length=32, max_length=32)]
Share = Annotated[bytes, Meta(min_length=33, max_length=33)]
Sealed = Annotated[bytes, Meta(min_length=16, max_length=256)]
Nodes = Annotated[tuple[PublicKey, ...], Meta(max_length=4096)]


class SumKeys(Document, frozen=True):
    """A node's keys for one sum: two X25519 keys, and the SHA-256 of the secret that its own mask comes from.

    `model` is the SHA-256 of the model that it was sent: all of a roster must have been sent the same. `sum` is the
    number that the coordinator gave this sum: one that breaks is begun anew, as another.
    """

    run: RunId
    round: Number
    sum: SumId
    masks: Key
    shares: Key
    secret: Digest
    model: Digest


class Roster(Message, frozen=True):
    """Who takes part, each as it signed for itself. Empty: not yet."""

    keys: Annotated[tuple[Signed, ...], Meta(max_length=4096)] = ()
    threshold: Number = 0


class Dealt(Message, frozen=True):
    """A node's shares for each of the others that hold some of it, sealed for that one alone."""

    shares: dict[PublicKey, Sealed]


class Shares(Message, frozen=True):
    """What each of the others dealt to the caller, as far as it holds shares of theirs. Empty: not yet."""

    shares: dict[PublicKey, Sealed] = {}


class Survivors(Message, frozen=True):
    """Whose vectors are in the sum. Empty: not yet."""

    nodes: Nodes = ()


class Consent(Document, frozen=True):
    """A node has seen this set of survivors, sorted, in the sum of this transcript; `survivors` is its SHA-256."""

    run: RunId
    round: Number
    sum: SumId
    transcript: Digest
    survivors: Digest


class Consents(Message, frozen=True):
    """The consents of enough survivors. Empty: not yet."""

    consents: Annotated[tuple[Signed, ...], Meta(max_length=4096)] = ()


class Revealed(Message, frozen=True):
    """A node's shares: of the own masks of those in the sum, of the mask keys of those who are not."""

    masks: dict[PublicKey, Share]
    keys: dict[PublicKey, Share] = {}


_PATH = "/v1/runs/{run}/rounds/{round}/sums/{sum}/"
_PROBLEMS = (NotInvited, RoundClosed, RunNotFound, SumRefused)
_MOST = 2 * 1024 * 1024

TELL_KEYS = Endpoint(
    "POST",
    _PATH + "keys",
    Signed,
    Roster,
    who="signed",
    about="Take part in a secure sum",
    deadline=40.0,
    problems=_PROBLEMS,
)
DEAL = Endpoint(
    "POST",
    _PATH + "shares",
    Dealt,
    Shares,
    who="signed",
    about="Deal shares, and get those of the others",
    limit=_MOST,
    deadline=40.0,
    problems=_PROBLEMS,
)
SURVIVED: Endpoint[None, Survivors] = Endpoint(
    "GET",
    _PATH + "survivors",
    gives=Survivors,
    who="signed",
    about="Whose vectors are in the sum",
    deadline=40.0,
    problems=_PROBLEMS,
)
CONSENT = Endpoint(
    "POST",
    _PATH + "consents",
    Signed,
    Consents,
    who="signed",
    about="Say which survivors were seen",
    limit=_MOST,
    deadline=40.0,
    problems=_PROBLEMS,
)
REVEAL = Endpoint(
    "POST",
    _PATH + "reveal",
    Revealed,
    Done,
    who="signed",
    about="Hand in what lifts the masks of the sum",
    limit=_MOST,
    problems=_PROBLEMS,
)
