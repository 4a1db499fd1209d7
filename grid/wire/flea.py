"""Flea's HTTP under `/v1/flea/`: the routes of its later design, and those that doc.ai's server shipped.

Names of routes and fields are theirs, so that a client written for either finds them. A task is valid for an ordered
set of checkpoints: given as a range (the first design), as a list (the later one), or as one (the server). Unknown
fields are passed over, as that server does.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from grid.wire.endpoint import Endpoint, Stream
from grid.wire.names import Name
from grid.wire.problems import (
    BadRequest,
    CommitsSpent,
    DatasetNotFound,
    ModelNotFound,
    ModelRefused,
    NotAllowed,
    OutOfTurn,
    RunRefused,
    StrategyRefused,
    TaskClosed,
    TaskExists,
    TaskNotFound,
    TicketRefused,
    TooLarge,
    UpdateRefused,
    UpdateRepeated,
)
from grid.wire.rights import Right

BASE = "/v1/flea"
PAGE = 1000
"""Tasks in one answer, at most."""
BUNDLE_LIMIT = 256 * 1024**2
"""Bytes: the most that a task's one file may have."""
RESULT_LIMIT = 4 * 1024**3
"""Bytes: the most that the archive of a result may have; a task takes what its model needs, and no more."""

TaskName = Name
Time = Annotated[str | int | float, Meta(description="RFC 3339, or seconds since 1970, UTC")]
Words = Annotated[str, Meta(max_length=4096)]
Link = Annotated[str, Meta(max_length=2048)]
_JOB = r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z"
JobName = Annotated[str, Meta(pattern=_JOB, description="A UUID")]
Optional = Annotated[
    str, Meta(max_length=128, pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?\Z", description="A name, or none")
]

_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


class Row(msgspec.Struct, frozen=True, rename="camel"):
    """What travels here: camelCase, unknown fields passed over."""


class Health(Row, frozen=True):
    """That it is there."""

    status: str = "SERVING"


class Config(Row, frozen=True):
    """Where tasks and results are kept."""

    backend_type: str = "LOCAL_FILES"


class TaskAsked(Row, frozen=True):
    """A task to be. Its checkpoints: one, a list, or a range from an initial to a final one.

    `link` says where its file is, if it is not handed in. `aggregation` is how results become one: the name of a
    strategy, or `CumulativeMovingAverage`, `WeightedCumulativeMovingAverage`; `max_samples` is the most that a result
    weighs.
    """

    task_id: TaskName
    model_id: Name
    hyperparameters_id: Name
    deadline: Time
    checkpoint_id: Optional = ""
    checkpoint_ids: Annotated[tuple[Name, ...], Meta(max_length=1000)] = ()
    initial_checkpoint_id: Optional = ""
    final_checkpoint_id: Optional = ""
    active: bool = False
    link: Link = ""
    aggregation: Annotated[str, Meta(max_length=64)] = ""
    max_samples: Annotated[int, Meta(ge=1, le=2**31)] = 16_384


class TaskChange(Row, frozen=True):
    """Another deadline; open, or closed. Without `active` the design leaves a task as it is; that server closes it."""

    deadline: Time | None = None
    active: bool | None = None


class TaskDetails(Row, frozen=True):
    """A task. `checkpoint_id` is the oldest checkpoint that it is valid for; `state` is that of the task's machine."""

    task_id: TaskName
    model_id: Name
    hyperparameters_id: Name
    checkpoint_id: Name
    checkpoint_ids: tuple[Name, ...]
    deadline: str
    active: bool
    state: str
    link: str
    checkpoint_link: str
    digest: str = ""
    reason: str = ""
    aggregated_checkpoint_id: str = ""


class TaskQuery(Row, frozen=True):
    """Which tasks: of one model, variant, checkpoint; from one on, in order of name; closed ones as well."""

    model_id: Optional = ""
    hyperparameters_id: Optional = ""
    checkpoint_id: Optional = ""
    start_task_id: Optional = ""
    max_items: Annotated[int, Meta(ge=0, le=PAGE)] = 0
    include_inactive: bool = False


class TaskList(Row, frozen=True):
    """Tasks in order of name. `tasks`: by name, the checkpoint to begin with as a path below `repository_base_url`."""

    start_task_id: str
    max_items: int
    task_ids: tuple[str, ...]
    tasks: dict[str, str]
    repository_base_url: str


class Started(Row, frozen=True):
    """A client may work on a task: it puts its result to `upload_to`, once, until the task's deadline."""

    status: str
    job_id: str
    upload_to: str


class CommitQuery(Row, frozen=True):
    """With which checkpoint the client begins; by default the newest one of the task."""

    checkpoint_id: Optional = ""


class JobError(Row, frozen=True):
    """What went wrong with a job."""

    error_message: Words = ""
    client_id: Annotated[str, Meta(max_length=256)] = ""


class Told(Row, frozen=True):
    """A word back."""

    message: str


class EvaluationAsked(Row, frozen=True):
    """On which dataset of this node the checkpoints are compared: which tensors go in, and which are to come out."""

    dataset: Name
    inputs: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=16)] = ("features",)
    target: Name = "target"


class Score(Row, frozen=True):
    """How one checkpoint does: its mean loss, and its metrics, over so many examples."""

    checkpoint_id: str
    examples: int
    loss: float
    metrics: dict[str, float]


class Evaluation(Row, frozen=True):
    """The aggregated checkpoint beside all that the task was for. `improved`: its loss is less than all of theirs."""

    task_id: str
    state: str
    reason: str = ""
    dataset: str = ""
    aggregated: Score | None = None
    checkpoints: tuple[Score, ...] = ()
    improved: bool | None = None


class ClientCount(Row, frozen=True):
    """How often a client committed to tasks, and how often it handed in."""

    client_id: str
    commitments: int
    registrations: int


class Statistics(Row, frozen=True):
    """Commitments and registrations: all together, and of each client."""

    commitments: int
    registrations: int
    clients: tuple[ClientCount, ...]


class AdminAsked(Row, frozen=True):
    """What a maintainer wants done: `RELOAD_TOKENS`."""

    type: Annotated[str, Meta(max_length=64)]


class Result(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """`result.json` of a `.tioresult`, as the aggregator's schema has it."""

    task_id: str
    num_samples: Annotated[int, Meta(ge=1, le=2**31)]
    task_parameters: dict[str, Any]
    device_info: dict[str, Any]
    client_id: str = ""
    output: dict[str, Any] = {}
    profiling: dict[str, Any] = {}


def seconds(time: str | float) -> float:
    """A time as UTC seconds. Raises BadRequest."""
    if not isinstance(time, str):
        return float(time)
    if time.isascii() and time.isdigit():
        return float(time)
    found = _RFC3339.fullmatch(time)
    try:
        if found is None:
            raise ValueError
        day, clock, fraction, zone = found.groups()
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        return moment.timestamp() + float(fraction or 0)
    except ValueError:
        raise BadRequest(f"{time[:40]!r} is neither RFC 3339 nor seconds since 1970") from None


def told_time(at: float) -> str:
    """A time as that server writes it."""
    text = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds" if at % 1 else "seconds")
    return text.replace("+00:00", "Z")


# --- maintainers ----------------------------------------------------------------------------------

HEALTHZ: Endpoint[None, Health] = Endpoint("GET", f"{BASE}/healthz", gives=Health, about="Flea: whether it is there")
CONFIG: Endpoint[None, Config] = Endpoint("GET", f"{BASE}/config", gives=Config, about="Flea: where things are kept")
METRICS: Endpoint[None, None] = Endpoint("GET", f"{BASE}/metrics", about="Flea: figures for Prometheus")
ADMIN = Endpoint(
    "POST",
    f"{BASE}/admin",
    AdminAsked,
    Told,
    who="signed",
    right=Right.EDIT_SETTINGS,
    about="Flea: read the file of tokens again",
    problems=(NotAllowed,),
)

# --- task generators ------------------------------------------------------------------------------

_NEW = (ModelNotFound, ModelRefused, NotAllowed, RunRefused, StrategyRefused, TaskExists)
_OF_A_TASK = (NotAllowed, OutOfTurn, RunRefused, TaskNotFound)
CREATE_TASK = Endpoint(
    "POST",
    f"{BASE}/create_task",
    TaskAsked,
    TaskDetails,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Flea: register a task whose file lies elsewhere",
    problems=_NEW,
)
REGISTER_TASK = Endpoint(
    "POST",
    f"{BASE}/tasks",
    Stream,
    TaskDetails,
    who="signed",
    right=Right.MAKE_REQUESTS,
    limit=BUNDLE_LIMIT,
    about="Flea: register a task with its one file, as a form",
    problems=(*_NEW, TooLarge),
)
MODIFY_TASK = Endpoint(
    "POST",
    f"{BASE}/modify_task/{{task}}",
    TaskChange,
    TaskDetails,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Flea: close a task, open it again, give it another deadline",
    problems=_OF_A_TASK,
)
CHANGE_TASK = Endpoint(
    "PUT",
    f"{BASE}/tasks/{{task}}",
    TaskChange,
    TaskDetails,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Flea: close a task, open it again, give it another deadline",
    problems=_OF_A_TASK,
)
AGGREGATE: Endpoint[None, TaskDetails] = Endpoint(
    "POST",
    f"{BASE}/tasks/{{task}}/aggregate",
    gives=TaskDetails,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Flea: make one checkpoint of what was handed in for a closed task",
    problems=_OF_A_TASK,
)
EVALUATE = Endpoint(
    "POST",
    f"{BASE}/tasks/{{task}}/evaluate",
    EvaluationAsked,
    Evaluation,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Flea: compare the aggregated checkpoint with every one that the task was for",
    problems=(*_OF_A_TASK, DatasetNotFound),
)
ARCHIVE: Endpoint[None, TaskDetails] = Endpoint(
    "DELETE",
    f"{BASE}/tasks/{{task}}",
    gives=TaskDetails,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Flea: put a task away; what was handed in and not aggregated is forgotten",
    problems=_OF_A_TASK,
)
EVALUATION: Endpoint[None, Evaluation] = Endpoint(
    "GET",
    f"{BASE}/tasks/{{task}}/evaluation",
    gives=Evaluation,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Flea: what came of that",
    problems=(NotAllowed, TaskNotFound),
)

# --- clients --------------------------------------------------------------------------------------

TASKS: Endpoint[None, TaskList] = Endpoint(
    "GET", f"{BASE}/tasks", gives=TaskList, who="signed", query=TaskQuery, about="Flea: the open tasks of a checkpoint"
)
TASK: Endpoint[None, TaskDetails] = Endpoint(
    "GET", f"{BASE}/tasks/{{task}}", gives=TaskDetails, who="signed", about="Flea: one task", problems=(TaskNotFound,)
)
BUNDLE: Endpoint[None, Stream] = Endpoint(
    "GET",
    f"{BASE}/tasks/{{task}}/bundle",
    gives=Stream,
    who="signed",
    parts=True,
    about="Flea: the file of a task",
    problems=(TaskNotFound,),
)
COMMIT: Endpoint[None, Started] = Endpoint(
    "POST",
    f"{BASE}/tasks/{{task}}",
    gives=Started,
    who="signed",
    query=CommitQuery,
    about="Flea: commit to a task",
    problems=(CommitsSpent, ModelNotFound, NotAllowed, TaskClosed, TaskNotFound),
)
START_TASK: Endpoint[None, Started] = Endpoint(
    "GET",
    f"{BASE}/start_task/{{task}}",
    gives=Started,
    who="signed",
    query=CommitQuery,
    about="Flea: commit to a task, as its server had it",
    problems=(CommitsSpent, ModelNotFound, NotAllowed, TaskClosed, TaskNotFound),
)
UPLOAD: Endpoint[Stream, Told] = Endpoint(
    "PUT",
    f"{BASE}/uploads/{{ticket}}",
    Stream,
    Told,
    limit=RESULT_LIMIT,
    about="Flea: hand in a result, once, by the address that a commit gave",
    problems=(TaskClosed, TicketRefused, UpdateRefused, UpdateRepeated),
)
JOB_ERROR = Endpoint(
    "POST",
    f"{BASE}/job_error/{{task}}/{{job}}",
    JobError,
    Told,
    who="signed",
    about="Flea: a job failed",
    problems=(OutOfTurn, TaskNotFound),
)

# --- model owners ---------------------------------------------------------------------------------

TASK_STATISTICS: Endpoint[None, Statistics] = Endpoint(
    "GET",
    f"{BASE}/tasks/{{task}}/statistics",
    gives=Statistics,
    who="signed",
    about="Flea: who committed to a task, and who handed in: for its generator and its model's owner",
    problems=(NotAllowed, TaskNotFound),
)
MODEL_STATISTICS: Endpoint[None, Statistics] = Endpoint(
    "GET",
    f"{BASE}/models/{{model}}/statistics",
    gives=Statistics,
    who="signed",
    about="Flea: who committed to tasks for a model, and who handed in: for its owner",
    problems=(ModelNotFound, NotAllowed),
)
