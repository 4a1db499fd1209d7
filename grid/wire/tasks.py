"""Tasks that wait for devices: opened for a model, committed to, handed in for, summed, evaluated."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, UnsetType

from grid.wire.directory import Done
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.message import Message
from grid.wire.models import CHECKPOINT_LIMIT, Link, Maybe
from grid.wire.names import Count, Name, Seconds, Text
from grid.wire.problems import (
    CommitsSpent,
    DatasetNotFound,
    ModelNotFound,
    ModelRefused,
    NotAllowed,
    OutOfTurn,
    QuestionRefused,
    RangeUnsatisfiable,
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
from grid.wire.runs import After, Event, Events

FILE_LIMIT = 256 * 1024**2
"""Bytes: the most that a task's one file may have."""
PAGE = 1000
"""Tasks in one answer, at most."""

Examples = Annotated[int, Meta(ge=1, le=2**31)]
Checkpoints = Annotated[tuple[Name, ...], Meta(max_length=1000)]
Ticket = Annotated[str, Meta(max_length=128, description="Good once, for whoever committed, while the task is open")]


class NewTask(Message, frozen=True):
    """A task to be, until `ends`: for a list of checkpoints of a variant, or the range from `first` to `last`.

    It is open at once, or a draft, which can be given a file. `link` says where a file lies that is not here.
    `strategy` is how updates become one (nothing: FedAvg); an update weighs its examples, `most_examples` at most.
    """

    model: Name
    variant: Name
    ends: Seconds
    checkpoints: Checkpoints = ()
    first: Maybe = ""
    last: Maybe = ""
    open: bool = True
    link: Link = ""
    strategy: Annotated[dict[str, Any], Meta(max_length=16)] = {}
    most_examples: Examples = 16_384


class TaskChange(Message, frozen=True):
    """What is to be another: until when, and whether it is open."""

    ends: Seconds | UnsetType = UNSET
    open: bool | UnsetType = UNSET


class TaskInfo(Message, frozen=True):
    """A task. `file` is the SHA-256 of its one file, if that is here; `result` the checkpoint that it came to."""

    task: Name
    owner: str
    model: Name
    variant: Name
    checkpoints: Checkpoints
    ends: Seconds
    state: str
    created: Seconds
    reason: Text = ""
    file: str = ""
    link: Link = ""
    strategy: dict[str, Any] = {}
    most_examples: Examples = 16_384
    result: Maybe = ""


class Tasks(Message, frozen=True):
    """Tasks in order of name; `more`: there are others behind the last one."""

    tasks: tuple[TaskInfo, ...]
    more: bool = False


class TaskQuery(Message, frozen=True):
    """Open tasks for a model, a variant, a checkpoint, from one on; closed ones as well.

    `wait`: for so many seconds until there is one, where there is none.
    """

    model: Maybe = ""
    variant: Maybe = ""
    checkpoint: Maybe = ""
    first: Maybe = ""
    most: Annotated[int, Meta(ge=1, le=PAGE)] = 100
    closed: bool = False
    wait: Annotated[float, Meta(ge=0, le=30)] = 0.0


class Commit(Message, frozen=True):
    """With which of the task's checkpoints; the newest, if none is named."""

    checkpoint: Maybe = ""


class Committed(Message, frozen=True):
    """Somebody may work on a task, from this checkpoint, and hands in with this ticket while the task is open."""

    job: str
    ticket: Ticket
    checkpoint: Name
    ends: Seconds


class Learned(Message, frozen=True):
    """From how many examples an update was learned."""

    examples: Examples


class GaveUp(Message, frozen=True):
    """Why nothing will come of a job."""

    reason: Text


class Measure(Message, frozen=True):
    """On which dataset of this node checkpoints are compared: the tensors that go in, and that are to come out."""

    dataset: Name
    inputs: Annotated[tuple[Name, ...], Meta(min_length=1, max_length=16)] = ("features",)
    target: Name = "target"


class Score(Message, frozen=True):
    """How a checkpoint does, over so many examples."""

    checkpoint: Name
    examples: Count
    loss: float
    metrics: dict[str, float] = {}


class Evaluation(Message, frozen=True):
    """What a task came to, beside all checkpoints that it was for. `improved`: its loss is less than all of theirs."""

    state: str
    reason: Text = ""
    on: Measure | None = None
    result: Score | None = None
    others: tuple[Score, ...] = ()
    improved: bool | None = None


class ClientCount(Message, frozen=True):
    """How often a client committed, and how often it handed in."""

    client: str
    commitments: Count
    registrations: Count


class Statistics(Message, frozen=True):
    """Commitments and registrations: all together, and by client."""

    commitments: Count
    registrations: Count
    clients: tuple[ClientCount, ...] = ()


# --- whoever opens tasks --------------------------------------------------------------------------

_OWN = (NotAllowed, OutOfTurn, TaskNotFound)
ADD_TASK = Endpoint(
    "POST",
    "/v1/tasks/{task}",
    NewTask,
    TaskInfo,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Open a task for devices, or draft one",
    problems=(ModelNotFound, ModelRefused, NotAllowed, RunRefused, StrategyRefused, TaskExists),
)
PUT_TASK_FILE = Endpoint(
    "PUT",
    "/v1/tasks/{task}/file",
    Stream,
    TaskInfo,
    who="signed",
    right=Right.MAKE_REQUESTS,
    limit=FILE_LIMIT,
    about="Give a draft its one file, for devices to understand",
    problems=(*_OWN, TooLarge),
)
CHANGE_TASK = Endpoint(
    "PATCH",
    "/v1/tasks/{task}",
    TaskChange,
    TaskInfo,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Open a task, close it, open it again, give it another deadline",
    problems=(*_OWN, RunRefused),
)
AGGREGATE_TASK: Endpoint[None, TaskInfo] = Endpoint(
    "POST",
    "/v1/tasks/{task}/aggregate",
    gives=TaskInfo,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Make one checkpoint of what was handed in for a closed task",
    problems=_OWN,
)
EVALUATE_TASK = Endpoint(
    "POST",
    "/v1/tasks/{task}/evaluate",
    Measure,
    Evaluation,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Compare what a task came to with every checkpoint that it was for",
    problems=(*_OWN, DatasetNotFound, QuestionRefused),
)
TASK_EVALUATION: Endpoint[None, Evaluation] = Endpoint(
    "GET",
    "/v1/tasks/{task}/evaluation",
    gives=Evaluation,
    who="signed",
    about="What came of that, for whoever opened the task",
    problems=(NotAllowed, TaskNotFound),
)
ARCHIVE_TASK: Endpoint[None, TaskInfo] = Endpoint(
    "DELETE",
    "/v1/tasks/{task}",
    gives=TaskInfo,
    who="signed",
    right=Right.MAKE_REQUESTS,
    about="Put a task away; what was handed in and never summed is forgotten",
    problems=_OWN,
)
TASK_EVENTS: Endpoint[None, Events] = Endpoint(
    "GET",
    "/v1/tasks/{task}/events",
    gives=Events,
    query=After,
    who="signed",
    about="What happens to a task: its states, who commits, hands in and gives up; for whoever opened it",
    entry=Event,
    deadline=40.0,
    problems=(NotAllowed, TaskNotFound),
)

# --- devices --------------------------------------------------------------------------------------

TASKS: Endpoint[None, Tasks] = Endpoint(
    "GET",
    "/v1/tasks",
    gives=Tasks,
    who="signed",
    query=TaskQuery,
    deadline=40.0,
    about="Open tasks of models that the caller may see",
)
TASK: Endpoint[None, TaskInfo] = Endpoint(
    "GET", "/v1/tasks/{task}", gives=TaskInfo, who="signed", about="One task", problems=(TaskNotFound,)
)
TASK_FILE: Endpoint[None, Stream] = Endpoint(
    "GET",
    "/v1/tasks/{task}/file",
    gives=Stream,
    who="signed",
    parts=True,
    about="The file of a task",
    problems=(RangeUnsatisfiable, TaskNotFound),
)
COMMIT = Endpoint(
    "POST",
    "/v1/tasks/{task}/jobs",
    Commit,
    Committed,
    who="signed",
    about="Commit to a task; who handed nothing in may do so again, with a new ticket",
    problems=(CommitsSpent, ModelNotFound, NotAllowed, TaskClosed, TaskNotFound),
)
GIVE_UP = Endpoint(
    "POST",
    "/v1/tasks/{task}/jobs/{job}/failed",
    GaveUp,
    Done,
    who="signed",
    about="Nothing will come of a job",
    problems=(OutOfTurn, TaskNotFound),
)
HAND_IN: Endpoint[Stream, Done] = Endpoint(
    "PUT",
    "/v1/updates/{ticket}",
    Stream,
    Done,
    who="signed",
    query=Learned,
    limit=CHECKPOINT_LIMIT,
    about="Hand in what was learned: the model's tensors in the safetensors layout",
    problems=(TaskClosed, TicketRefused, TooLarge, UpdateRefused, UpdateRepeated),
)

# --- owners of models -----------------------------------------------------------------------------

TASK_STATISTICS: Endpoint[None, Statistics] = Endpoint(
    "GET",
    "/v1/tasks/{task}/statistics",
    gives=Statistics,
    who="signed",
    about="Who committed to a task, and who handed in: for its owner, and its model's",
    problems=(NotAllowed, TaskNotFound),
)
MODEL_STATISTICS: Endpoint[None, Statistics] = Endpoint(
    "GET",
    "/v1/models/{model}/statistics",
    gives=Statistics,
    who="signed",
    about="Who committed to tasks for a model, and who handed in: for its owner",
    problems=(ModelNotFound, NotAllowed),
)
