"""The transparency log of a gateway: which key it lists under which name, and which keys were revoked."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.message import Document, Message
from grid.wire.names import Count, PublicKey, Seconds
from grid.wire.problems import BadRequest, BadSignature, KeyRevoked

TREE_HEAD = "tree-head"
"""The signing domain of `TreeHead`."""
ROTATION = "key-rotation"
"""The signing domain of `Rotation`."""
REVOCATION = "key-revocation"
"""The signing domain of `Revocation`."""

Hash = Annotated[bytes, Meta(min_length=32, max_length=32, description="SHA-256")]
Path = Annotated[tuple[Hash, ...], Meta(max_length=64)]
EntryBytes = Annotated[bytes, Meta(max_length=8192, description="MessagePack of a LogEntry: what its leaf is made of")]


class TreeHead(Document, frozen=True):
    """The gateway's word on its whole log: so many entries, with this root (RFC 9162, 2.1)."""

    size: Count
    root: Hash
    at: Seconds


class Revocation(Document, frozen=True):
    """A key is no longer to be believed, says the key itself: signed when it was lost, or in advance and kept apart."""

    public_key: PublicKey
    at: Seconds
    reason: Annotated[str, Meta(max_length=256)] = ""


class Rotation(Document, frozen=True):
    """A key gives its place to another: signed by both, over the same bytes."""

    old_key: PublicKey
    new_key: PublicKey
    at: Seconds


class Rotate(Message, frozen=True):
    """A `Rotation` with both signatures. Anybody may hand it in."""

    by_old: Signed
    by_new: Signed


class LogEntry(Document, frozen=True):
    """One entry: a name was given to a key (`member`), a key was revoked, or it gave its place to another.

    `proof` is what the key signed of its revocation or rotation, `consent` what the new key signed of the latter.
    """

    kind: Literal["member", "revocation", "rotation"]
    public_key: PublicKey
    at: Seconds
    node_id: str = ""
    proof: Signed | None = None
    consent: Signed | None = None


class Logged(Message, frozen=True):
    """An entry with the proof that the log has it: its place, and the path from its leaf to the root of `head`."""

    entry: EntryBytes
    index: Count
    path: Path
    head: Signed


class Span(Message, frozen=True):
    """Which entries: `limit` of them, from number `after` on."""

    after: Count = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class Entries(Message, frozen=True):
    """Entries in their order."""

    entries: tuple[EntryBytes, ...]


class Sizes(Message, frozen=True):
    """Two sizes of one log."""

    first: Count
    size: Count


class Proof(Message, frozen=True):
    """That the log of `first` entries is the beginning of the one of `size` (RFC 9162, 2.1.4)."""

    path: Path


class Heads(Message, frozen=True):
    """The newest head of each gateway's log that a node follows, as the gateway signed it."""

    heads: Annotated[tuple[Signed, ...], Meta(max_length=256)]


class Revoke(Message, frozen=True):
    """A `Revocation`, signed by the key that it revokes. Anybody may hand it in."""

    revocation: Signed


LOG_HEAD: Endpoint[None, Signed] = Endpoint("GET", "/v1/log/head", gives=Signed, about="The signed head of the log")
LOG_ENTRIES: Endpoint[None, Entries] = Endpoint(
    "GET", "/v1/log/entries", gives=Entries, query=Span, about="Entries of the log"
)
LOG_CONSISTENCY: Endpoint[None, Proof] = Endpoint(
    "GET",
    "/v1/log/consistency",
    gives=Proof,
    query=Sizes,
    about="Proof that nothing left the log between two sizes",
    problems=(BadRequest,),
)
HEADS: Endpoint[None, Heads] = Endpoint(
    "GET", "/v1/heads", gives=Heads, about="Which heads of gateways' logs this node was shown, to compare"
)
ROTATE_KEY: Endpoint[Rotate, Logged] = Endpoint(
    "POST",
    "/v1/log/rotations",
    Rotate,
    Logged,
    about="Put a new key in the place of an old one, at the word of both",
    limit=16384,
    problems=(BadSignature, KeyRevoked),
)
REVOKE_KEY: Endpoint[Revoke, Logged] = Endpoint(
    "POST",
    "/v1/log/revocations",
    Revoke,
    Logged,
    about="Revoke a key for good, at its own word",
    limit=8192,
    problems=(BadSignature,),
)
