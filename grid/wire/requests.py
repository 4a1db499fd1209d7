"""Requests for access: asking, the officer's evidence, decisions, and the log in which they stand."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from grid.wire.directory import Done
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.message import Document, Message
from grid.wire.names import Count, Digest, Name, PublicKey, Seconds
from grid.wire.permissions import Action
from grid.wire.problems import (
    BudgetSpent,
    DatasetNotFound,
    NotAllowed,
    NotFound,
    OutOfTurn,
    RequestRefused,
    TooManyRequests,
)
from grid.wire.rights import Right
from grid.wire.runs import After, Event, Events

Kind = Annotated[
    Literal["download", "permission", "budget", "training", "inference", "release"],
    Meta(description="release: that what a run learned here is handed to who asked for it; the node itself asks"),
]
State = Literal["pending", "accepted", "denied", "withdrawn", "auto-denied", "released", "lapsed"]
Reason = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"\S", description="Words for the officer")]


class Training(Message, frozen=True):
    """What a run would do here; two runs that say the same here are the same to an officer. Fields as in `Task`."""

    plan: Digest
    rounds: Annotated[int, Meta(ge=1, le=100_000)] = 1
    inputs: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=16)] = ("features",)
    target: Name = "target"
    holdout: Annotated[float, Meta(ge=0, lt=1)] = 0.2
    strategy: Annotated[dict[str, Any], Meta(max_length=16)] = {}


class Ask(Message, frozen=True):
    """What somebody asks for, and why: a `tensor` to download, an `action` to be permitted, an `epsilon` more of the
    dataset's budget, a `training` to be admitted, a `model` to be asked.
    """

    kind: Kind
    dataset: Name
    reason: Reason
    tensor: Name | None = None
    action: Action | None = None
    epsilon: Annotated[float, Meta(gt=0, le=1e6)] | None = None
    training: Training | None = None
    model: Name | None = None


class Cost(Message, frozen=True):
    """What a request would take of one budget: `share` is its cost over the budget, `left` what is left without it.

    Both are null where nothing hides the records: there is no end to that.
    """

    whose: str
    epsilon: float
    cost: float | None
    share: float | None
    left: float


class Evidence(Message, frozen=True):
    """What an officer is shown: the plan on one sheet, where it comes from, what it costs, how it compares.

    `average`: for each figure of this request, the share of accepted ones on the dataset that had less of it; empty
    if there were none. `history`: how many requests of the account are in which state. `figures`: what was measured
    here, such as `rounds`, `last-loss`, `last-norm`, `last-record-epsilon`.
    """

    sheet: tuple[tuple[str, str], ...] = ()
    provenance: dict[str, str] = {}
    costs: tuple[Cost, ...] = ()
    average: dict[str, float] = {}
    history: dict[str, Count] = {}
    figures: dict[str, float] = {}


class RequestInfo(Message, frozen=True):
    """A request, as who asked sees it; officers see the evidence, too."""

    id: int
    account: str
    asked: Ask
    state: State
    created: Seconds
    changed: Seconds
    expires: Seconds
    by: str = ""
    why: str = ""
    run: str = ""
    evidence: Evidence | None = None


class RequestList(Message, frozen=True):
    """Requests, newest first: one's own, and all for officers."""

    requests: tuple[RequestInfo, ...]


class Decision(Message, frozen=True):
    """An officer's word on a request: good for so many seconds, if it is accepted."""

    accept: bool
    why: Annotated[str, Meta(max_length=4096)] = ""
    lasts: Annotated[float, Meta(gt=0, le=10 * 366 * 86_400)] = 30 * 86_400.0


class Which(Message, frozen=True):
    """Only requests in this state."""

    state: State | None = None


class AuditEntry(Document, frozen=True):
    """One entry of the log of decisions: `before` is the SHA-256 of the payload before it, empty for the first one."""

    number: int
    at: Seconds
    kind: str
    data: dict[str, Any]
    before: str


AUDIT_ENTRY = "audit-entry"
"""The signing domain of `AuditEntry`."""


class AuditPage(Message, frozen=True):
    """Entries of the log in order, each signed by the node."""

    entries: tuple[Signed, ...]


class Behind(Message, frozen=True):
    """Entries with larger numbers, so many at most."""

    after: Count = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 1000


class GateSetting(Message, frozen=True):
    """What a dataset's owner wants looked at: runs before they begin, results before they are handed out.

    `keepers`: keys of nodes that may drive runs on it, since they keep results until these are released; this node
    always may.
    """

    admission: bool = False
    release: bool = False
    keepers: Annotated[tuple[PublicKey, ...], Meta(max_length=64)] = ()


ASK = Endpoint(
    "POST",
    "/v1/requests",
    Ask,
    RequestInfo,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Ask for access",
    problems=(BudgetSpent, DatasetNotFound, RequestRefused, TooManyRequests),
)
REQUESTS: Endpoint[None, RequestList] = Endpoint(
    "GET", "/v1/requests", gives=RequestList, query=Which, who="signed", about="One's own requests; all for officers"
)
REQUEST: Endpoint[None, RequestInfo] = Endpoint(
    "GET", "/v1/requests/{id}", gives=RequestInfo, who="signed", about="One request", problems=(NotFound,)
)
REQUEST_EVENTS: Endpoint[None, Events] = Endpoint(
    "GET",
    "/v1/requests/events",
    gives=Events,
    query=After,
    who="signed",
    about="What becomes of one's own requests; of all for officers: as the events of a run are heard",
    entry=Event,
    deadline=40.0,
)
DECIDE = Endpoint(
    "POST",
    "/v1/requests/{id}/decision",
    Decision,
    RequestInfo,
    who="signed",
    right=Right.TRIAGE_REQUESTS,
    about="Accept or deny a request",
    problems=(NotAllowed, NotFound, OutOfTurn),
)
WITHDRAW: Endpoint[None, RequestInfo] = Endpoint(
    "DELETE",
    "/v1/requests/{id}",
    gives=RequestInfo,
    who="signed",
    about="Withdraw one's own request",
    problems=(NotFound, OutOfTurn),
)
AUDIT_LOG: Endpoint[None, AuditPage] = Endpoint(
    "GET",
    "/v1/audit-log",
    gives=AuditPage,
    query=Behind,
    who="signed",
    right=Right.TRIAGE_REQUESTS,
    about="The log of decisions, chained and signed",
)
SET_GATES = Endpoint(
    "PUT",
    "/v1/datasets/{name}/gates",
    GateSetting,
    Done,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="What an officer has to look at before and after runs on a dataset",
    problems=(DatasetNotFound,),
)
GATES: Endpoint[None, GateSetting] = Endpoint(
    "GET",
    "/v1/datasets/{name}/gates",
    gives=GateSetting,
    who="signed",
    about="What an officer has to look at before and after runs on a dataset",
    problems=(DatasetNotFound,),
)
