"""PyGrid's model-centric protocol under `/model-centric/`, and as messages of a websocket at `/`.

Names of routes, messages and fields are PyGrid's, so that a device written for it finds them. Bodies are JSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from grid.wire.endpoint import Endpoint, Stream
from grid.wire.problems import (
    DeviceNotFound,
    Full,
    ModelNotFound,
    ModelRefused,
    NotAllowed,
    NotAuthenticated,
    ProjectNotFound,
    ProjectRefused,
    RangeUnsatisfiable,
    StrategyRefused,
    TaskClosed,
    TicketRefused,
    TooLarge,
    TooManyRequests,
    UpdateRefused,
    UpdateRepeated,
)
from grid.wire.rights import Right

BASE = "/model-centric"
HOST_LIMIT = 64 * 1024 * 1024
"""Bytes of a process with its model and plans, in their text."""
REPORT_LIMIT = 4 * 1024**3
"""Bytes of a report, in its text; a round takes what its own model needs, and no more."""
SPEED_TEST = 64 * 1024 * 1024
"""Bytes of a speed test, either way."""
SOCKET_LIMIT = 1024 * 1024
"""Bytes of one message of a websocket, which is held whole: larger ones go by HTTP."""

Word = Annotated[str, Meta(min_length=1, max_length=128)]
Short = Annotated[str, Meta(max_length=512)]
Count = Annotated[int, Meta(ge=0, le=10**6)]
Speed = Annotated[float, Meta(ge=0, le=1e9)]
Told = dict[str, Any]


class Row(msgspec.Struct, frozen=True):
    """What travels here: names as they are, unknown fields passed over."""


class Authentication(Row, frozen=True, forbid_unknown_fields=True):
    """Whose tokens (JWT) let a device in: HS256 by `secret`, RS256 by `pub_key` (PEM); each ends by its `exp`."""

    type: Literal["jwt"] = "jwt"
    method: Short = ""
    endpoint: Short = ""
    secret: Annotated[str, Meta(max_length=4096)] = ""
    is_secret_encoded: bool = False
    pub_key: Annotated[str, Meta(max_length=8192)] = ""


class ServerConfig(Row, frozen=True, forbid_unknown_fields=True):
    """What the server keeps to. `cycle_length` in seconds, speeds in kilobits a second.

    `min_worker` is as `min_workers`. `strategy` is ours: how updates become one, by default their mean.
    """

    min_workers: Count | None = None
    min_worker: Count | None = None
    max_workers: Count | None = None
    pool_selection: Literal["random", "iterate"] = "random"
    num_cycles: Annotated[int, Meta(ge=1, le=10**6)] = 1
    do_not_reuse_workers_until_cycle: Count | None = None
    cycle_length: Annotated[float, Meta(ge=0, le=3.2e7)] | None = None
    minimum_upload_speed: Speed | None = None
    minimum_download_speed: Speed | None = None
    authentication: Authentication | None = None
    min_diffs: Count | None = None
    max_diffs: Count | None = None
    iterative_plan: bool = False
    strategy: dict[str, Any] | str = "fedavg"


class ClientConfig(Row, frozen=True):
    """What names a process; all else in it goes to its devices as it is."""

    name: Word
    version: Word


class HostAsked(Row, frozen=True):
    """A process to be. Files in hexadecimal or base64; a plan is one, or one by form (list, torchscript, tfjs)."""

    model: str
    client_config: Told
    server_config: ServerConfig
    plans: Annotated[dict[Word, str | dict[Word, str]], Meta(max_length=64)] = {}
    protocols: Annotated[dict[Word, str], Meta(max_length=64)] = {}
    averaging_plan: str | None = None


class AuthenticateAsked(Row, frozen=True):
    """A device introduces itself for a process."""

    model_name: Word
    model_version: Short = ""
    auth_token: Annotated[str, Meta(max_length=8192)] | None = None


class CycleAsked(Row, frozen=True):
    """A device asks to take part. Speeds as it measured them: kilobits a second, and milliseconds for `ping`."""

    worker_id: Word
    model: Short = ""
    version: Short | None = None
    ping: Speed | None = None
    download: Speed | None = None
    upload: Speed | None = None


class ReportAsked(Row, frozen=True):
    """A device's difference: the checkpoint less what it learned, as a file of tensors, in base64."""

    worker_id: Word
    request_key: Short
    diff: str


class ReportHead(Row, frozen=True):
    """All of a report but its difference."""

    worker_id: Word
    request_key: Short


class FetchQuery(Row, frozen=True):
    """What is fetched by a device that takes part; `receive_operations_as` is the form of a plan."""

    worker_id: Word
    request_key: Short
    model_id: Short = ""
    plan_id: Short = ""
    protocol_id: Short = ""
    receive_operations_as: Annotated[str, Meta(max_length=32)] = "list"


class RetrieveQuery(Row, frozen=True):
    """A checkpoint of a process: a number from 1, its name, or `latest`."""

    name: Word
    version: Short = ""
    checkpoint: Short = "latest"


class SpeedQuery(Row, frozen=True):
    """Who measures; `random` keeps caches away, `is_ping` asks for nothing but an answer."""

    worker_id: Word
    random: Short = ""
    is_ping: Short = ""


# --- endpoints ----------------------------------------------------------------------------------

HOST: Endpoint[HostAsked, Told] = Endpoint(
    "POST",
    f"{BASE}/host-training",
    HostAsked,
    Told,
    who="signed",
    right=Right.UPLOAD_DATA,
    limit=HOST_LIMIT,
    deadline=120.0,
    about="PyGrid: host a process: its model, plans, and what it asks",
    problems=(Full, ModelRefused, ProjectRefused, StrategyRefused, TooLarge),
)
AUTHENTICATE: Endpoint[AuthenticateAsked, Told] = Endpoint(
    "POST",
    f"{BASE}/authenticate",
    AuthenticateAsked,
    Told,
    about="PyGrid: a device introduces itself",
    problems=(NotAuthenticated, ProjectNotFound),
)
CYCLE_REQUEST: Endpoint[CycleAsked, Told] = Endpoint(
    "POST",
    f"{BASE}/cycle-request",
    CycleAsked,
    Told,
    about="PyGrid: a device asks to take part",
    problems=(DeviceNotFound,),
)
_FETCHING = (DeviceNotFound, ModelNotFound, RangeUnsatisfiable, TaskClosed, TicketRefused)
GET_MODEL: Endpoint[None, Stream] = Endpoint(
    "GET",
    f"{BASE}/get-model",
    gives=Stream,
    query=FetchQuery,
    parts=True,
    about="PyGrid: the model that a round begins with, as a file of tensors",
    problems=_FETCHING,
)
GET_PLAN: Endpoint[None, Stream] = Endpoint(
    "GET",
    f"{BASE}/get-plan",
    gives=Stream,
    query=FetchQuery,
    parts=True,
    about="PyGrid: one of a process' plans",
    problems=_FETCHING,
)
GET_PROTOCOL: Endpoint[None, Stream] = Endpoint(
    "GET",
    f"{BASE}/get-protocol",
    gives=Stream,
    query=FetchQuery,
    parts=True,
    about="PyGrid: one of a process' protocols",
    problems=_FETCHING,
)
REPORT: Endpoint[Stream, Told] = Endpoint(
    "POST",
    f"{BASE}/report",
    Stream,
    Told,
    limit=REPORT_LIMIT,
    deadline=600.0,
    about="PyGrid: a device hands in",
    problems=(DeviceNotFound, Full, TaskClosed, TicketRefused, TooLarge, UpdateRefused, UpdateRepeated),
)
RETRIEVE_MODEL: Endpoint[None, Stream] = Endpoint(
    "GET",
    f"{BASE}/retrieve-model",
    gives=Stream,
    who="signed",
    query=RetrieveQuery,
    parts=True,
    about="PyGrid: a checkpoint of a process",
    problems=(ModelNotFound, NotAllowed, ProjectNotFound, RangeUnsatisfiable),
)
SPEED_DOWN: Endpoint[None, Stream] = Endpoint(
    "GET",
    f"{BASE}/speed-test",
    gives=Stream,
    query=SpeedQuery,
    about="PyGrid: bytes to measure a download by",
    problems=(DeviceNotFound, TooManyRequests),
)
SPEED_UP: Endpoint[Stream, Told] = Endpoint(
    "POST",
    f"{BASE}/speed-test",
    Stream,
    Told,
    query=SpeedQuery,
    limit=SPEED_TEST,
    deadline=600.0,
    about="PyGrid: bytes to measure an upload by, which are read and forgotten",
    problems=(DeviceNotFound, TooLarge, TooManyRequests),
)
SOCKET: Endpoint[None, Stream] = Endpoint(
    "GET",
    "/",
    gives=Stream,
    about="PyGrid: host-training, authenticate, cycle-request and report, as messages of a websocket",
    problems=(TooManyRequests,),
)
