"""What a node is asked: its datasets, its state, whom it trusts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from grid.wire.directory import Done, Prekey, Tags
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.log import Revoke
from grid.wire.message import Message
from grid.wire.names import Address, Count, Digest, Name, NodeId, PublicKey, Seconds, Tag, Text
from grid.wire.problems import (
    BadRequest,
    BadSignature,
    DatasetExists,
    DatasetNotFound,
    DatasetRefused,
    NotAllowed,
    NotFound,
    RunNotFound,
)
from grid.wire.rights import Right
from grid.wire.runs import After, Event, Events, RunId

Shape = Annotated[tuple[Count, ...], Meta(max_length=8)]
PeerName = Annotated[str, Meta(min_length=1, max_length=2304, description="A node's name, or an address")]
DType = Literal["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"]


Visibility = Annotated[
    Literal["public", "private", "hidden"],
    Meta(description="public: accounts may have it; private: found by all; hidden: only those who are permitted"),
]


class Column(Message, frozen=True):
    """One column of a table and where it went: `tensor`[:, `position`]; `categories` where words became codes."""

    name: Annotated[str, Meta(max_length=256)]
    kind: Literal["number", "category"]
    tensor: Name
    position: Count = 0
    categories: tuple[str, ...] = ()


class TensorInfo(Message, frozen=True):
    """One named tensor of a dataset; the first axis counts the examples."""

    name: Name
    dtype: DType
    shape: Shape


class DatasetInfo(Message, frozen=True):
    """What a node tells about a dataset; never the data. `target` names the tensor to be learned."""

    name: Name
    description: Text = ""
    tags: Tags = ()
    examples: Count = 0
    tensors: tuple[TensorInfo, ...] = ()
    target: Name | None = None
    columns: Annotated[tuple[Column, ...], Meta(max_length=16384)] = ()
    classes: tuple[str, ...] = ()
    created: Seconds = 0.0


class Page(Message, frozen=True):
    """Which part of a list is asked for: what comes behind a name, so many at most."""

    after: Annotated[str, Meta(max_length=128)] = ""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 100


class Datasets(Message, frozen=True):
    """Datasets of a node in order of name. `more`: there are others behind the last one."""

    datasets: tuple[DatasetInfo, ...]
    more: bool = False


class NewDataset(Message, frozen=True):
    """The owner registers a file of tensors that already lies in the node's own store."""

    info: DatasetInfo
    digest: Digest
    visibility: Visibility = "private"


class Query(Message, frozen=True):
    """Tags, as the grid RFC's gateways ask them of a node."""

    query: Annotated[tuple[Tag, ...], Meta(max_length=64)]


class Holds(Message, frozen=True):
    """Whether one dataset here has all the tags asked for."""

    content: bool


class Isolation(Message, frozen=True):
    """What confines a job on this machine: Landlock ABI (0: none), seccomp, and the policy followed."""

    landlock: int
    seccomp: bool
    policy: Literal["require", "prefer"]
    sufficient: bool


class Status(Message, frozen=True):
    """A node's state for people and directories. `engine` describes its workers.

    `alarms`: gateways, by address, that it found not to be believed, and why.
    """

    status: Literal["online", "busy", "draining"]
    node_id: NodeId
    version: str
    started: Seconds
    datasets: Count
    runs: dict[str, int]
    isolation: Isolation
    engine: dict[str, Any]
    alarms: dict[str, str] = {}


class Published(Message, frozen=True):
    """The node's present prekey, signed and dated."""

    prekey: Prekey


class Trust(Message, frozen=True):
    """The owner lets the holder of a key train on this node's data."""

    public_key: PublicKey
    name: Annotated[str, Meta(max_length=128)] = ""


class Trusted(Message, frozen=True):
    """All keys that may train here."""

    trusted: tuple[Trust, ...]


class KnownPeer(Message, frozen=True):
    """A peer that this node has met, and the key by which it is known from then on (see `key-changed`)."""

    name: PeerName
    public_key: PublicKey
    first_seen: Seconds
    last_seen: Seconds
    how: Literal["first use", "by hand"]


class KnownPeers(Message, frozen=True):
    """All peers that this node has met."""

    peers: tuple[KnownPeer, ...]


class PinPeer(Message, frozen=True):
    """The owner compared a key: the peer is known by it from now on."""

    name: PeerName
    public_key: PublicKey


class ForgetPeer(Message, frozen=True):
    """The owner wants a peer to be met anew."""

    name: PeerName


class LookNow(Message, frozen=True):
    """The owner wants the gateways' logs looked at; `witness`: the member to be asked what it was shown."""

    witness: NodeId | None = None


class LogSeen(Message, frozen=True):
    """A gateway's log as it was looked at: how long it is, who was shown the same, and what is wrong with it."""

    gateway: Address
    entries: Count
    witness: str = ""
    wrong: str = ""


class LogsSeen(Message, frozen=True):
    """The logs of all gateways at which the node is listed."""

    logs: tuple[LogSeen, ...]


class Part(Message, frozen=True):
    """This node's part in a run: what it does at present, for whom, driven by which coordinator, since when.

    `device` is what its worker computes on (`cpu`, or a GPU), empty while it has none.
    """

    run: RunId
    state: str
    scientist: PublicKey
    coordinator: Address
    since: Seconds
    device: str = ""


class Parts(Message, frozen=True):
    """All runs that this node takes part in, newest first."""

    parts: tuple[Part, ...]


HOLDS = Endpoint("POST", "/search", Query, Holds, about="Does this node have data with these tags (grid RFC)")
DATASET_TAGS: Endpoint[None, tuple[Tag, ...]] = Endpoint(
    "GET", "/dataset-tags", gives=tuple[Tag, ...], about="All tags of this node's data"
)
STATUS: Endpoint[None, Status] = Endpoint(
    "GET", "/status", gives=Status, about="State, isolation and workers of this node"
)
PREKEY: Endpoint[None, Published] = Endpoint("GET", "/v1/prekey", gives=Published, about="The key to seal envelopes to")
DATASETS: Endpoint[None, Datasets] = Endpoint(
    "GET", "/v1/datasets", gives=Datasets, query=Page, who="signed", about="The datasets that one may find, described"
)
DATASET: Endpoint[None, DatasetInfo] = Endpoint(
    "GET",
    "/v1/datasets/{name}",
    gives=DatasetInfo,
    who="signed",
    about="One dataset, described",
    problems=(DatasetNotFound,),
)
ADD_DATASET = Endpoint(
    "POST",
    "/v1/datasets",
    NewDataset,
    DatasetInfo,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Register a dataset",
    limit=4 * 1024 * 1024,
    problems=(DatasetExists, DatasetRefused),
)
REMOVE_DATASET: Endpoint[None, Done] = Endpoint(
    "DELETE",
    "/v1/datasets/{name}",
    gives=Done,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Remove a dataset",
    problems=(DatasetNotFound,),
)
TENSOR: Endpoint[None, Stream] = Endpoint(
    "GET",
    "/v1/datasets/{name}/tensors/{tensor}",
    gives=Stream,
    who="signed",
    about="Download a tensor, where permitted",
    problems=(DatasetNotFound, NotAllowed),
)
TRUSTED: Endpoint[None, Trusted] = Endpoint(
    "GET", "/v1/trusted", gives=Trusted, who="signed", right=Right.EDIT_SETTINGS, about="Who may train here"
)
TRUST = Endpoint(
    "POST", "/v1/trusted", Trust, Done, who="signed", right=Right.EDIT_SETTINGS, about="Let a key train here"
)
DISTRUST: Endpoint[None, Done] = Endpoint(
    "DELETE",
    "/v1/trusted/{public_key}",
    gives=Done,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="No longer let a key train here",
)
PEERS: Endpoint[None, KnownPeers] = Endpoint(
    "GET",
    "/v1/peers",
    gives=KnownPeers,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="Whom this node has met, by which key",
)
PIN_PEER = Endpoint(
    "POST",
    "/v1/peers",
    PinPeer,
    Done,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="Know a peer by a key that was compared",
)
FORGET_PEER = Endpoint(
    "DELETE",
    "/v1/peers",
    ForgetPeer,
    Done,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="Meet a peer anew",
    problems=(NotFound,),
)
AUDIT = Endpoint(
    "POST",
    "/v1/audits",
    LookNow,
    LogsSeen,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="Look at the logs of this node's gateways now, and compare them with another member's",
    deadline=120.0,
)
NODE_EVENTS: Endpoint[None, Events] = Endpoint(
    "GET",
    "/v1/events",
    gives=Events,
    query=After,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="What happened to the node itself, such as a gateway that lied, or a network that was split",
    entry=Event,
    deadline=40.0,
)
REVOKE_HERE = Endpoint(
    "POST",
    "/v1/revocations",
    Revoke,
    Done,
    about="No longer believe a key that this node knows, at that key's own word",
    limit=16384,
    problems=(BadRequest, BadSignature, NotFound),
)
PARTS: Endpoint[None, Parts] = Endpoint(
    "GET",
    "/v1/parts",
    gives=Parts,
    who="signed",
    right=Right.TRIAGE_REQUESTS,
    about="The runs that this node takes part in",
)
PART_EVENTS: Endpoint[None, Events] = Endpoint(
    "GET",
    "/v1/parts/{run}/events",
    gives=Events,
    query=After,
    who="signed",
    right=Right.TRIAGE_REQUESTS,
    about="What this node does in a run, and how its training goes: as the events of a run are heard",
    entry=Event,
    deadline=40.0,
    problems=(RunNotFound,),
)
