"""What a directory is told and asked: join, renew, leave, search, resolve.

`/join`, `/search` and `/health-check` are the grid RFC's, verbatim; `/connected-nodes`, `/delete-node`,
`/search-available-tags` and `/search-available-models` are what its gateways grew.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.log import Logged, Rotate
from grid.wire.message import Document, Message
from grid.wire.names import Address, Name, NodeId, PublicKey, Seconds, Tag
from grid.wire.problems import (
    AddressRefused,
    NodeIdTaken,
    NotAMember,
    StaleRecord,
    UnsignedJoinRefused,
)

State = Literal["joining", "online", "busy", "suspect", "offline", "expired"]
Tags = Annotated[tuple[Tag, ...], Meta(max_length=1024)]
Prekey = Annotated[bytes, Meta(max_length=4096, description="A signed, dated public key that envelopes are sealed to")]

NODE_RECORD = "node-record"
"""The signing domain of `NodeRecord`."""


class NodeRecord(Document, frozen=True):
    """What a node says of itself, signed by its key: anyone can check it, whoever hands it out.

    `version` (milliseconds since 1970) orders the records of one node; the newest wins.
    """

    node_id: NodeId
    node_address: Address
    version: Annotated[int, Meta(ge=0)]
    expires: Seconds
    tags: Tags = ()
    models: Annotated[tuple[Name, ...], Meta(max_length=1024)] = ()
    public_key: PublicKey | None = None


class Join(Message, frozen=True):
    """A node asks to be listed. The RFC's two fields suffice; `record` proves who asks."""

    node_id: NodeId
    node_address: Address
    record: Signed | None = None
    prekey: Prekey | None = None


class Joined(Message, frozen=True):
    """Listed until the lease ends (`lease` seconds from now), unless it is renewed."""

    message: str
    state: State
    lease: Seconds
    verified: bool


class Renew(Message, frozen=True):
    """The node is still there. `busy`: it would rather not be asked for work now."""

    node_id: NodeId
    busy: bool = False


class Renewed(Message, frozen=True):
    """The lease runs for `lease` seconds from now."""

    state: State
    lease: Seconds


class Leave(Message, frozen=True):
    """Take this node off the list. Both fields must be those it is listed with."""

    node_id: NodeId
    node_address: Address


class Done(Message, frozen=True):
    """It was done; `message` says what."""

    message: str


class Search(Message, frozen=True):
    """Which nodes have data with these tags: all of them, or any. `live` asks the nodes themselves."""

    query: Annotated[tuple[Tag, ...], Meta(max_length=64)]
    match: Literal["all", "any"] = "all"
    live: bool = False


class Found(Message, frozen=True):
    """The nodes found, as [id, address]; those among them that never proved who they are; those that did not answer."""

    node_addresses: tuple[tuple[NodeId, Address], ...]
    unverified: tuple[NodeId, ...] = ()
    silent: tuple[NodeId, ...] = ()


class Connected(Message, frozen=True):
    """The ids of all members that are listed."""

    grid_nodes: tuple[NodeId, ...]
    unverified: tuple[NodeId, ...] = ()


class Member(Message, frozen=True):
    """One member, with what it signed, so that the directory need not be believed.

    `logged`, where one member is asked for: the proof that the directory's log has the name under the record's key;
    `rotations`: how this key came into the place of earlier ones.
    """

    node_id: NodeId
    node_address: Address
    state: State
    verified: bool
    lease_ends: Seconds
    tags: Tags = ()
    record: Signed | None = None
    prekey: Prekey | None = None
    logged: Logged | None = None
    rotations: Annotated[tuple[Rotate, ...], Meta(max_length=64)] = ()


class Page(Message, frozen=True):
    """Where to go on in a list: `after` the last id seen, at most `limit` rows."""

    after: Annotated[str, Meta(max_length=128)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Members(Message, frozen=True):
    """A page of members in order of id; `after` is empty on the last page."""

    members: tuple[Member, ...]
    after: str = ""


JOIN = Endpoint(
    "POST",
    "/join",
    Join,
    Joined,
    about="Be listed (grid RFC)",
    limit=256 * 1024,
    problems=(NodeIdTaken, StaleRecord, AddressRefused, UnsignedJoinRefused),
)
SEARCH = Endpoint("POST", "/search", Search, Found, about="Find nodes by the tags of their data (grid RFC)")
CONNECTED_NODES: Endpoint[None, Connected] = Endpoint(
    "GET", "/connected-nodes", gives=Connected, about="The ids of all listed nodes"
)
DELETE_NODE = Endpoint("DELETE", "/delete-node", Leave, Done, about="Leave the list", problems=(NotAMember,))
AVAILABLE_TAGS: Endpoint[None, tuple[Tag, ...]] = Endpoint(
    "GET", "/search-available-tags", gives=tuple[Tag, ...], about="All tags on the grid"
)
AVAILABLE_MODELS: Endpoint[None, tuple[Name, ...]] = Endpoint(
    "GET", "/search-available-models", gives=tuple[Name, ...], about="All models on the grid"
)
RENEW = Endpoint("POST", "/v1/lease", Renew, Renewed, about="Renew a lease", who="signed", problems=(NotAMember,))
MEMBER: Endpoint[None, Member] = Endpoint(
    "GET", "/v1/members/{node_id}", gives=Member, about="One member", problems=(NotAMember,)
)
MEMBERS: Endpoint[None, Members] = Endpoint(
    "GET", "/v1/members", gives=Members, query=Page, about="All members, page by page"
)
