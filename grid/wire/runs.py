"""Tasks, runs, rounds: what scientist, coordinator and participants say to each other."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from grid.wire.directory import Done, Prekey
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.message import Document, Message
from grid.wire.names import Address, Count, Digest, Name, NodeId, PublicKey, Seconds, Tag
from grid.wire.problems import (
    EnvelopeRefused,
    InviteRefused,
    NoParticipants,
    NotInvited,
    NotReleased,
    PartMismatch,
    PlanRefused,
    PrekeyUnknown,
    RangeUnsatisfiable,
    RoundClosed,
    RunNotFound,
    RunRefused,
    UpdateRefused,
    UpdateRepeated,
)
from grid.wire.ranges import Held, Piece

TASK = "task"
"""The signing domain of `Task`."""

BUNDLE_LIMIT = 4 * 1024**3
"""Bytes: the most that a bundle, a model or an update may have."""

RunState = Literal["standby", "preparing", "running", "aggregating", "success", "failed", "stopped"]
RunId = Annotated[str, Meta(pattern=r"^[a-z0-9]{20,40}\Z", description="Drawn at random by whoever asks for the run")]


Number = Annotated[int, Meta(ge=0, le=100_001, description="A round; 0 stands for the preparation")]


class Quorum(Document, frozen=True):
    """How many updates a round needs: at least `minimum`; it closes at `target` (0: all who are drawn).

    `drawn` nodes are drawn at random into each round (0: all who are there), more than the target needs because some
    drop out; the others are spares, drawn where the round would fall short of its target otherwise.
    """

    minimum: Annotated[int, Meta(ge=1, le=100_000)] = 1
    target: Annotated[int, Meta(ge=0, le=100_000)] = 0
    drawn: Annotated[int, Meta(ge=0, le=100_000)] = 0


class Stopping(Document, frozen=True):
    """When a run has learned enough: `metric` was not better by more than `min_delta` for `patience` rounds.

    `mode` says which way is better; the metric is the mean over the examples that the nodes hold out.
    """

    metric: Name
    mode: Literal["min", "max"] = "min"
    patience: Annotated[int, Meta(ge=1, le=100_000)] = 5
    min_delta: Annotated[float, Meta(ge=0)] = 0.0


class Task(Document, frozen=True):
    """What a scientist asks for, signed by the scientist: participants obey this, not the coordinator's word.

    `plan` is the digest of the bundle; `tags` the data it is for, `inputs` and `target` the tensors it reads;
    `deadline` seconds per round at most; `pace`: less than that, as many times as long as most updates of past rounds
    took (0: always the deadline; `grid.protocol.pace`); `holdout` the share of examples kept for evaluation;
    `strategy` how updates become a model, as `grid.learning.strategy` reads it (nothing: FedAvg); `stop` when the
    run ends before its last round; `held`: what it learns is handed out once every node that took part has released it.
    """

    run: RunId
    plan: Digest
    coordinator: PublicKey
    tags: Annotated[tuple[Tag, ...], Meta(min_length=1, max_length=64)]
    created: Seconds
    expires: Seconds
    rounds: Annotated[int, Meta(ge=1, le=100_000)] = 1
    inputs: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=16)] = ("features",)
    target: Name = "target"
    quorum: Quorum = Quorum()
    deadline: Annotated[float, Meta(gt=0, le=604_800)] = 600.0
    holdout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    strategy: Annotated[dict[str, Any], Meta(max_length=16)] = {}
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0
    pace: Annotated[float, Meta(ge=0, le=100)] = 0.0
    stop: Stopping | None = None
    held: bool = False


class Peer(Message, frozen=True):
    """A node that may take part: where it answers and the key it must prove."""

    node_id: NodeId
    node_address: Address
    public_key: PublicKey


class StartRun(Message, frozen=True):
    """Ask a coordinator to drive a run. Its bundle must have been put there before."""

    task: Signed
    peers: Annotated[tuple[Peer, ...], Meta(min_length=1, max_length=10_000)]


class ParticipantInfo(Message, frozen=True):
    """How one participant fares, for the coordinator and the run's owner."""

    node_id: NodeId
    state: str
    reason: str = ""
    examples: Count = 0


class RunInfo(Message, frozen=True):
    """Where a run stands."""

    run: RunId
    state: RunState
    round: Count
    rounds: Count
    created: Seconds
    reason: str = ""
    participants: tuple[ParticipantInfo, ...] = ()


class RunList(Message, frozen=True):
    """The caller's runs, newest first."""

    runs: tuple[RunInfo, ...]


class Event(Message, frozen=True):
    """One entry of the log: `cursor` orders all entries, `data` depends on `kind`."""

    cursor: Count
    kind: str
    at: Seconds
    data: dict[str, Any] = {}


class After(Message, frozen=True):
    """Read the log after a cursor; wait up to `wait` seconds for something to be there."""

    after: Count = 0
    wait: Annotated[float, Meta(ge=0, le=25)] = 0.0


class Events(Message, frozen=True):
    """The entries, in order, and the cursor to go on from."""

    events: tuple[Event, ...]
    after: Count


class Invite(Message, frozen=True):
    """A coordinator asks a node to take part in the run that a scientist's signed task describes."""

    task: Signed
    coordinator_address: Address
    prekey: Prekey


class Invited(Message, frozen=True):
    """The node takes part, with this many examples of its own to learn from."""

    node_id: NodeId
    dataset: Name
    examples: Count


class Fetch(Message, frozen=True):
    """Ask for a sealed payload, to be wrapped for this prekey of the caller."""

    prekey: Prekey


class FetchCheckpoint(Message, frozen=True):
    """Ask for the checkpoint that a round made (0: the newest), to be wrapped for this prekey of the caller."""

    prekey: Prekey
    round: Number = 0


class Since(Message, frozen=True):
    """Read from this round on."""

    round: Number = 0


class NodeMetrics(Message, frozen=True):
    """How the checkpoint of round `round` did on the `examples` that one node holds out."""

    round: Number
    node_id: NodeId
    examples: Count
    metrics: dict[str, float]


class Measured(Message, frozen=True):
    """What each node measured, by round: whole rounds, as many as fit. None: there is no more."""

    reports: tuple[NodeMetrics, ...]


class Report(Document, frozen=True):
    """What a participant says of one round, sealed to the coordinator.

    ready: plan and data fit (round 0) · evaluated: `metrics` of the round's model on `examples` held-out ones
    · trained: `metrics` of the local training on `examples`, and the `numbers` that its strategy asks for
    (of an encoded update, `base` is the SHA-256 of the model that it began with)
    · failed: gave up, `reason` says why.
    """

    status: Literal["ready", "evaluated", "trained", "failed"]
    examples: Count = 0
    metrics: dict[str, float] = {}
    numbers: dict[str, float] = {}
    reason: str = ""
    base: str = ""


class Counted(Message, frozen=True):
    """The update is on disk and its row committed: it will be counted, once."""

    round: Count
    at: Seconds


INVITE = Endpoint(
    "POST", "/v1/invites", Invite, Invited, who="signed", about="Invite a node into a run", problems=(InviteRefused,)
)
PUT_BUNDLE = Endpoint(
    "PUT",
    "/v1/bundles/{digest}",
    Stream,
    Done,
    who="signed",
    query=Piece,
    about="Hand in a plan with its first parameters",
    limit=BUNDLE_LIMIT,
    problems=(PlanRefused, PartMismatch),
)
BUNDLE_HELD: Endpoint[None, Held] = Endpoint(
    "GET",
    "/v1/bundles/{digest}",
    gives=Held,
    query=Piece,
    who="signed",
    about="How much of a bundle arrived before its connection broke",
)
START_RUN = Endpoint(
    "POST",
    "/v1/runs",
    StartRun,
    RunInfo,
    who="signed",
    about="Start a run",
    limit=4 * 1024 * 1024,
    deadline=60.0,
    problems=(RunRefused, NoParticipants),
)
RUNS: Endpoint[None, RunList] = Endpoint("GET", "/v1/runs", gives=RunList, who="signed", about="The caller's runs")
RUN: Endpoint[None, RunInfo] = Endpoint(
    "GET", "/v1/runs/{run}", gives=RunInfo, who="signed", about="One run", problems=(RunNotFound,)
)
STOP_RUN: Endpoint[None, RunInfo] = Endpoint(
    "POST", "/v1/runs/{run}/stop", gives=RunInfo, who="signed", about="Stop a run", problems=(RunNotFound,)
)
RUN_EVENTS: Endpoint[None, Events] = Endpoint(
    "GET",
    "/v1/runs/{run}/events",
    gives=Events,
    query=After,
    who="signed",
    about="What happened in a run: by long-poll, as server-sent events, or through a websocket",
    entry=Event,
    deadline=40.0,
    problems=(RunNotFound,),
)
CHECKPOINT = Endpoint(
    "POST",
    "/v1/runs/{run}/checkpoint",
    FetchCheckpoint,
    Stream,
    who="signed",
    about="The newest checkpoint, or that of a round, sealed to the run's owner",
    parts=True,
    problems=(NotReleased, RunNotFound, RangeUnsatisfiable),
)
RELEASE: Endpoint[None, Done] = Endpoint(
    "POST",
    "/v1/runs/{run}/release",
    gives=Done,
    who="signed",
    about="A node that took part lets what a held run learned be handed out",
    problems=(NotInvited, RunNotFound),
)
RUN_TASK: Endpoint[None, Signed] = Endpoint(
    "GET", "/v1/runs/{run}/task", gives=Signed, who="signed", about="The signed task", problems=(RunNotFound,)
)
RUN_PLAN = Endpoint(
    "POST",
    "/v1/runs/{run}/plan",
    Fetch,
    Stream,
    who="signed",
    about="The plan that a run began with, sealed to its owner",
    parts=True,
    problems=(RunNotFound, RangeUnsatisfiable),
)
RUN_METRICS: Endpoint[None, Measured] = Endpoint(
    "GET",
    "/v1/runs/{run}/metrics",
    gives=Measured,
    query=Since,
    who="signed",
    about="What each node measured, for the owners of run and coordinator",
    problems=(RunNotFound,),
)
BUNDLE = Endpoint(
    "POST",
    "/v1/runs/{run}/bundle",
    Fetch,
    Stream,
    who="signed",
    about="The plan, sealed to an invited participant",
    parts=True,
    problems=(NotInvited, RunNotFound, RangeUnsatisfiable),
)
MODEL = Endpoint(
    "POST",
    "/v1/runs/{run}/rounds/{round}/model",
    Fetch,
    Stream,
    who="signed",
    about="Commit to a round and get its model, sealed",
    parts=True,
    problems=(NotInvited, RoundClosed, RunNotFound, RangeUnsatisfiable),
)
REPORT = Endpoint(
    "POST",
    "/v1/runs/{run}/rounds/{round}/report",
    Stream,
    Done,
    who="signed",
    about="How the round's model does on the participant's held-out examples, or why it gave up; sealed",
    limit=256 * 1024,
    problems=(NotInvited, EnvelopeRefused, PrekeyUnknown),
)
UPDATE = Endpoint(
    "POST",
    "/v1/runs/{run}/rounds/{round}/update",
    Stream,
    Counted,
    who="signed",
    query=Piece,
    about="Hand in a sealed update",
    limit=BUNDLE_LIMIT,
    deadline=120.0,
    problems=(NotInvited, RoundClosed, UpdateRepeated, UpdateRefused, EnvelopeRefused, PrekeyUnknown, PartMismatch),
)
UPDATE_HELD: Endpoint[None, Held] = Endpoint(
    "GET",
    "/v1/runs/{run}/rounds/{round}/update",
    gives=Held,
    query=Piece,
    who="signed",
    about="How much of an update arrived before its connection broke",
    problems=(NotInvited, RunNotFound),
)
