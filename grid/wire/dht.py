"""The directory without a centre: what its peers say of themselves, and what they ask each other.

All calls are answered on the port on which a node answers everything else. A key is 20 bytes: the beginning of a
SHA-256, of a public key, or of a word under which records are found (`grid.dht.ids` says how each is made).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from grid.wire.directory import Found, NodeRecord, Search
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.message import MSGPACK, Document, Message
from grid.wire.names import Count, Name, PublicKey, Seconds, Tag
from grid.wire.problems import Full, NotAllowed

Key = Annotated[bytes, Meta(min_length=20, max_length=20, description="Where a record is kept")]
Nonce = Annotated[bytes, Meta(min_length=16, max_length=16, description="Random; signed by who answers")]
Proof = Annotated[bytes, Meta(max_length=64, description="The nonce, signed by the key of the record")]
Words = Annotated[tuple[Tag, ...], Meta(max_length=64)]
Contacts = Annotated[tuple[Signed, ...], Meta(max_length=20)]

MEMBERSHIP = "dht-membership"
"""The signing domain of `Membership`."""

ALIVE = "dht-alive"
"""The signing domain of proofs: what is signed is the network's name, NUL, and the nonce."""


class PeerRecord(NodeRecord, frozen=True, omit_defaults=True):
    """A node record with what a network without a centre must know. Signed as `NodeRecord`, so it can be read as one.

    `listens`: whether others can connect to it; who does not publishes and searches, and keeps nothing for others.
    `membership`: what lets it in, where not everybody may. A record without address and tags says good-bye.
    `relays`: it keeps mailboxes for those who have no port; the address of such a one is its mailbox there.
    """

    node_address: Annotated[str, Meta(max_length=2048)]
    network: Annotated[str, Meta(max_length=64)] = ""
    listens: bool = True
    membership: Signed | None = None
    relays: bool = False


class Membership(Document, frozen=True):
    """An issuer's word that a key belongs to a network, as one of a `group` (a hospital, a company)."""

    member: PublicKey
    network: Annotated[str, Meta(max_length=64)]
    group: Name
    expires: Seconds


class Want(Message, frozen=True):
    """Which records under a key: those with all, any and none of these tags; the `limit` that come after a place.

    Each asker has an order of its own for a day, so that no provider is first for all. `after` is the `after` of the
    page before.
    """

    all: Words = ()
    any: Words = ()
    none: Words = ()
    limit: Annotated[int, Meta(ge=0, le=500)] = 100
    after: Key | None = None


class Find(Message, frozen=True):
    """Who is near a key, and what is kept there. `sender`: the record of who asks, if it wants to be known."""

    target: Key
    sender: Signed | None = None
    want: Want | None = None
    nonce: Nonce | None = None


class Near(Message, frozen=True):
    """The nearest peers that were seen alive, and the clock of who answers.

    `records` where some were wanted, out of `kept`; `after` where the page ends; `proof` where there was a nonce.
    """

    contacts: Contacts
    now: Seconds
    records: Annotated[tuple[Signed, ...], Meta(max_length=500)] = ()
    kept: Count = 0
    after: Key | None = None
    proof: Proof = b""


class Store(Message, frozen=True):
    """Keep a record of the caller under a key."""

    key: Key
    record: Signed


class Kept(Message, frozen=True):
    """It is kept; or not, since `newer` is known of the same node."""

    kept: bool
    newer: Signed | None = None


class Ping(Message, frozen=True):
    """Show that you are who your record says."""

    nonce: Nonce


class Pong(Message, frozen=True):
    """The record of who answers, the proof that it does, and its clock."""

    record: Signed
    proof: Proof
    now: Seconds


class FoundHere(Found, frozen=True, kw_only=True):
    """What a gateway of the grid RFC answers to a search, and what a node does: whether it has such data itself."""

    content: bool


class Known(Message, frozen=True):
    """What a peer knows of the network, for its owner: contacts by address, records kept, and what was counted.

    `split_since`: when so many of those it knew fell silent together that the network may be split; `silent`: how many.
    """

    network: str
    key: PublicKey
    contacts: tuple[str, ...]
    records: Count
    bytes: Count
    silent: Count = 0
    split_since: Seconds | None = None
    counted: dict[str, int] = {}
    refused: dict[str, int] = {}


FIND = Endpoint(
    "POST", "/v1/dht/find", Find, Near, about="Who is near a key, and what is kept there", media=MSGPACK, deadline=1.5
)
STORE = Endpoint(
    "POST",
    "/v1/dht/store",
    Store,
    Kept,
    about="Keep a record under a key",
    media=MSGPACK,
    deadline=1.5,
    problems=(Full, NotAllowed),
)
PING = Endpoint("POST", "/v1/dht/ping", Ping, Pong, about="Show that you are there", media=MSGPACK, deadline=2.0)
KNOWN: Endpoint[None, Known] = Endpoint(
    "GET", "/v1/dht", gives=Known, about="What this peer knows of the network", who="owner"
)
SEARCH_HERE = Endpoint(
    "POST", "/search", Search, FoundHere, about="Find nodes by tags, and does this one have such data (grid RFC)"
)
