"""FLaaS's HTTP under `/api/`: its routes, its fields, its numbers.

Names of routes, fields and states are those of FLaaS-Server, so that an app written for it finds them. Each path is
answered with and without the slash at its end. Unknown fields are passed over: what a phone tells of where it is goes
no further than the parser.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from grid.wire.endpoint import Endpoint, Stream
from grid.wire.names import Name
from grid.wire.problems import (
    CommitsSpent,
    DeviceNotFound,
    Full,
    ModelNotFound,
    ModelRefused,
    NotAllowed,
    NotAuthenticated,
    NotInvited,
    OutOfTurn,
    ProjectNotFound,
    ProjectRefused,
    RangeUnsatisfiable,
    RoundClosed,
    RoundNotFound,
    StrategyRefused,
    TaskClosed,
    TooLarge,
    TooManyRequests,
    UpdateRefused,
    UpdateRepeated,
)
from grid.wire.rights import Right
from grid.wire.runs import After, Event, Events

BASE = "/api"
MODEL_LIMIT = 4 * 1024**3
"""Bytes: the most that a model may have; a round takes what its own needs, and no more."""
RESULTS_LIMIT = 1 << 20
"""Bytes of one file of results."""

JOIN, DOWNLOAD_MODEL, TRAIN, MERGE_MODELS, SUBMIT_RESULTS, COMPLETE = range(1, 7)
"""The states of a device in a round, as FLaaS numbers them."""

Ratio = Annotated[float, Meta(ge=0, le=1)]
Number = Annotated[int, Meta(ge=0, le=10**9)]
Some = Annotated[int, Meta(ge=1, le=10**6)]
Status = Literal["Stopped", "In Progress", "Completed"]
Rows = dict[str, Any]


class Row(msgspec.Struct, frozen=True):
    """What travels here: names as they are, unknown fields passed over."""


class Terms(Row, frozen=True):
    """What a project asks of its devices. Times are in minutes, ratios are of all devices that belong to it.

    `model` names the model of this node that it begins with. `aggregation` is ours: a strategy, as tasks name them.
    """

    title: Annotated[str, Meta(min_length=1, max_length=30)]
    description: Annotated[str, Meta(max_length=4096)] | None = None
    model: Name = "CIFAR10_B20"
    dataset: Name = "CIFAR10"
    dataset_type: Literal["IID", "NonIID"] = "IID"
    training_mode: Literal["BASELINE", "JOINT_SAMPLES", "JOINT_MODELS"] = "BASELINE"
    number_of_rounds: Some = 20
    number_of_apps: Annotated[int, Meta(ge=1, le=100)] = 3
    number_of_samples: Some = 150
    number_of_epochs: Some = 20
    responses_ratio_threshold: Ratio = 0.80
    max_training_time: Annotated[int, Meta(ge=1, le=100_000)] = 60
    valid_round_training_threshold: Ratio = 0.70
    power_plugged_only: bool = True
    battery_level_threshold: Ratio = 0.60
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] | None = 42_524_235
    aggregation: dict[str, Any] | str = "fedavg"


class Credentials(Row, frozen=True):
    """An account's name and password."""

    username: Annotated[str, Meta(max_length=254)]
    password: Annotated[str, Meta(max_length=1024)]


class Pair(Row, frozen=True):
    """`access` is a bearer's token; `refresh` gets the next pair, once."""

    refresh: str
    access: str


class RefreshAsked(Row, frozen=True):
    """The newest word that a session was given to go on with."""

    refresh: Annotated[str, Meta(max_length=512)]


class Battery(Row, frozen=True):
    """How a device is powered; `level` from 0 to 1."""

    level: Annotated[float, Meta(ge=0, le=1)] | None = None
    power_plugged: bool | None = None


class App(Row, frozen=True):
    """Which version of the app reports."""

    version_code: Number = 0


class Usage(Row, frozen=True):
    """How often the app is used, as Android has it."""

    app_standby_bucket: Annotated[int, Meta(ge=-1, le=1000)] = -1


class DeviceInfo(Row, frozen=True):
    """What is taken of a report. The rest of it, place and cells of telephony with it, is not even read."""

    battery_status: Battery = Battery()
    app_details: App = App()
    usage_stats_details: Usage = Usage()


class Availability(Row, frozen=True):
    """A device is there; with `device-train` it says that it is done with the round `request_id`.

    `eligible` is ours: the device has judged by itself whether it can train, and tells nothing else.
    """

    request_type: Literal["device-ping", "device-train"]
    request_id: Number | None = None
    device_info: DeviceInfo | None = None
    eligible: bool | None = None


class JoinQuery(Row, frozen=True):
    """Where a device stands in a round."""

    status: Annotated[int, Meta(ge=1, le=6)] = JOIN


class SubmitQuery(Row, frozen=True):
    """`samples` is ours: from how many examples was learned; 0: from as many as the project says."""

    samples: Number = 0


class WebPush(Row, frozen=True, tag_field="kind", tag="web"):
    """A subscription as a browser gives it (W3C Push API): where it is reached, its key and secret, base64url."""

    endpoint: Annotated[str, Meta(max_length=2048, pattern=r"^https?://\S+\Z")]
    p256dh: Annotated[str, Meta(max_length=128)]
    auth: Annotated[str, Meta(max_length=64)]


class Fcm(Row, frozen=True, tag_field="kind", tag="fcm"):
    """The registration token that Firebase Cloud Messaging gave an Android device."""

    token: Annotated[str, Meta(min_length=1, max_length=4096)]


class Apns(Row, frozen=True, tag_field="kind", tag="apns"):
    """The device token that Apple gave an iOS device, hexadecimal."""

    token: Annotated[str, Meta(pattern=r"^[0-9a-fA-F]{32,200}\Z")]


Wake = WebPush | Fcm | Apns


class PushAsked(Row, frozen=True):
    """How a device is to be woken; null: not at all."""

    wake: Wake | None


class PushKey(Row, frozen=True):
    """The key by which browsers know this node (VAPID), base64url."""

    key: str


# --- endpoints ----------------------------------------------------------------------------------

TOKEN = Endpoint(
    "POST",
    f"{BASE}/token",
    Credentials,
    Pair,
    about="FLaaS: sign in",
    problems=(NotAuthenticated, TooManyRequests),
)
TOKEN_REFRESH = Endpoint(
    "POST",
    f"{BASE}/token/refresh",
    RefreshAsked,
    Pair,
    about="FLaaS: go on with a session",
    problems=(NotAuthenticated,),
)
PROJECTS: Endpoint[None, list[Rows]] = Endpoint(
    "GET", f"{BASE}/project", gives=list[Rows], who="signed", about="FLaaS: the projects that the caller belongs to"
)
CREATE_PROJECT: Endpoint[Rows, Rows] = Endpoint(
    "POST",
    f"{BASE}/project",
    Rows,
    Rows,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="FLaaS: make a project",
    problems=(ModelNotFound, ModelRefused, ProjectRefused, StrategyRefused),
)
PROJECT: Endpoint[None, Rows] = Endpoint(
    "GET",
    f"{BASE}/project/{{project}}",
    gives=Rows,
    who="signed",
    about="FLaaS: one project",
    problems=(ProjectNotFound,),
)
PUT_PROJECT: Endpoint[Rows, Rows] = Endpoint(
    "PUT",
    f"{BASE}/project/{{project}}",
    Rows,
    Rows,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="FLaaS: change, start or stop a project",
    problems=(NotAllowed, OutOfTurn, ProjectNotFound, ProjectRefused, StrategyRefused),
)
DELETE_PROJECT: Endpoint[None, None] = Endpoint(
    "DELETE",
    f"{BASE}/project/{{project}}",
    who="signed",
    right=Right.UPLOAD_DATA,
    about="FLaaS: remove a project with its models and results",
    problems=(NotAllowed, ProjectNotFound),
)
EVENTS: Endpoint[None, Events] = Endpoint(
    "GET",
    f"{BASE}/project/{{project}}/events",
    gives=Events,
    who="signed",
    query=After,
    entry=Event,
    deadline=40.0,
    about="FLaaS: the calls to train, for devices that cannot be pushed",
    problems=(ProjectNotFound,),
)
SAMPLES: Endpoint[None, Stream] = Endpoint(
    "GET",
    f"{BASE}/get-samples/{{dataset_type}}/{{app}}",
    gives=Stream,
    who="signed",
    parts=True,
    about="FLaaS: the caller's own samples for one app",
    problems=(DeviceNotFound, RangeUnsatisfiable),
)
GET_MODEL: Endpoint[None, Stream] = Endpoint(
    "GET",
    f"{BASE}/project/{{project}}/get-model/{{round}}",
    gives=Stream,
    who="signed",
    parts=True,
    about="FLaaS: the model that a round begins with: float32, little-endian, nothing else",
    problems=(ProjectNotFound, RangeUnsatisfiable, RoundNotFound),
)
_JOINING = (CommitsSpent, OutOfTurn, ProjectNotFound, RoundClosed, RoundNotFound, TaskClosed)
JOIN_ROUND: Endpoint[None, Rows] = Endpoint(
    "GET",
    f"{BASE}/project/{{project}}/join-round/{{round}}",
    gives=Rows,
    who="signed",
    query=JoinQuery,
    about="FLaaS: join a round, or say how far one is",
    problems=_JOINING,
)
POST_JOIN_ROUND: Endpoint[None, Rows] = Endpoint(
    "POST",
    f"{BASE}/project/{{project}}/join-round/{{round}}",
    gives=Rows,
    who="signed",
    query=JoinQuery,
    about="FLaaS: join a round, or say how far one is",
    problems=_JOINING,
)
REPORT_AVAILABILITY: Endpoint[Availability, None] = Endpoint(
    "POST",
    f"{BASE}/report-availability",
    Availability,
    who="signed",
    about="FLaaS: a device is there",
    problems=(DeviceNotFound, RoundNotFound),
)
SUBMIT_MODEL: Endpoint[Stream, None] = Endpoint(
    "POST",
    f"{BASE}/project/{{project}}/submit-model/{{round}}/{{filename}}",
    Stream,
    who="signed",
    query=SubmitQuery,
    limit=MODEL_LIMIT,
    deadline=600.0,
    about="FLaaS: a model that was trained in a round",
    problems=(
        Full,
        NotInvited,
        ProjectNotFound,
        RoundClosed,
        RoundNotFound,
        TaskClosed,
        TooLarge,
        UpdateRefused,
        UpdateRepeated,
    ),
)
SUBMIT_RESULTS_FILE: Endpoint[Stream, None] = Endpoint(
    "POST",
    f"{BASE}/project/{{project}}/submit-results/{{round}}/{{filename}}",
    Stream,
    who="signed",
    limit=RESULTS_LIMIT,
    about="FLaaS: what a device measured in a round, as JSON",
    problems=(NotInvited, ProjectNotFound, RoundNotFound, TooLarge, UpdateRepeated),
)
PUSH_KEY: Endpoint[None, PushKey] = Endpoint(
    "GET", f"{BASE}/push", gives=PushKey, who="signed", about="The key that browsers ask for when they subscribe"
)
PUT_PUSH: Endpoint[PushAsked, None] = Endpoint(
    "PUT",
    f"{BASE}/push",
    PushAsked,
    who="signed",
    about="How the calling device is woken when it is asked to train",
    problems=(DeviceNotFound,),
)
TICK: Endpoint[None, list[str]] = Endpoint(
    "POST",
    f"{BASE}/tick",
    gives=list[str],
    who="owner",
    deadline=120.0,
    about="FLaaS: look at all projects now, as the scheduler does by itself; what was found, line by line",
)
