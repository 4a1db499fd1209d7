"""Models at a node: model, variant, checkpoint; and who may see them, commit to tasks for them, and open such tasks."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from grid.wire.directory import Done
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.message import Message
from grid.wire.names import Count, Name, Seconds, Text
from grid.wire.problems import (
    BudgetSpent,
    ModelExists,
    ModelNotFound,
    ModelRefused,
    NotAllowed,
    PlanRefused,
    RangeUnsatisfiable,
    TensorsRefused,
    TooLarge,
    WorkerBusy,
    WorkerFailed,
)
from grid.wire.ranges import Piece
from grid.wire.rights import Right

CHECKPOINT_LIMIT = 4 * 1024**3
"""Bytes: the most that the file of a checkpoint may have."""

Subject = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=151,
        pattern=r"^(\*|@?[A-Za-z0-9@.+:_-]+)\Z",
        description="An account or a key; a group, with @ before its name; or * for everybody",
    ),
]
Pairs = Annotated[dict[str, Annotated[str, Meta(max_length=1024)]], Meta(max_length=256, description="Text to text")]
Link = Annotated[
    str, Meta(max_length=2048, pattern=r"^(https?://[^\s]+)?\Z", description="Where a file lies that is not here")
]
Maybe = Annotated[str, Meta(max_length=128, pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?\Z", description="A name, or none")]


MOST_ROWS = 1 << 16
"""Rows that a node may answer for at a time, at most."""

ROWS_LIMIT = 64 * 1024**2
"""Bytes: the most that rows may have that a model is asked about."""


class Hosting(Message, frozen=True):
    """What others may have of a model that they see: its files (`downloads`), and its answers (`predicts`).

    It answers for `most_rows` at a time. Where `dataset` is named, each row costs `epsilon` of the privacy budgets of
    that dataset, and what is told of it is a label, by randomized response.
    """

    downloads: bool = True
    predicts: bool = False
    most_rows: Annotated[int, Meta(ge=1, le=MOST_ROWS)] = 1024
    dataset: Maybe = ""
    epsilon: Annotated[float, Meta(ge=0, le=1e6)] = 0.0


class NewModel(Message, frozen=True):
    """What is said of a model; `canonical` is the variant to begin with, which may be still to come."""

    details: Text = ""
    canonical: Maybe = ""


class ModelInfo(Message, frozen=True):
    """A model, as those see it who may. `owner` is an account or a key; none: the node's owner."""

    model: Name
    owner: str
    details: Text
    canonical: Maybe
    variants: tuple[Name, ...]
    created: Seconds
    hosting: Hosting = Hosting()


class ModelList(Message, frozen=True):
    """Models that the caller may see, in order of name."""

    models: tuple[ModelInfo, ...]


class ModelPage(Message, frozen=True):
    """So many models behind a name."""

    after: Maybe = ""
    most: Annotated[int, Meta(ge=1, le=1000)] = 100


class NewVariant(Message, frozen=True):
    """What is said of a variant. Its hyperparameters never change.

    `canonical` is the checkpoint to begin with, `upgrade_to` the variant that takes its place.
    """

    details: Text = ""
    hyperparameters: Pairs = {}
    canonical: Maybe = ""
    upgrade_to: Maybe = ""


class VariantInfo(Message, frozen=True):
    """A variant; its checkpoints are in the order in which they came."""

    model: Name
    variant: Name
    details: Text
    hyperparameters: Pairs
    canonical: Maybe
    upgrade_to: Maybe
    checkpoints: tuple[Name, ...]
    created: Seconds


class NewCheckpoint(Message, frozen=True):
    """A checkpoint whose file lies elsewhere."""

    link: Annotated[Link, Meta(min_length=1)]
    info: Pairs = {}


class CheckpointInfo(Message, frozen=True):
    """A checkpoint. `digest` and `size` (bytes) are its file's, if that is here; else it lies behind the `link`.

    Of two checkpoints of a variant, the one that came later has the greater `number`.
    """

    model: Name
    variant: Name
    checkpoint: Name
    number: Count
    digest: str
    size: Count
    link: Link
    info: Pairs
    created: Seconds


class Which(Message, frozen=True):
    """The values by which a model answers: the variant and the checkpoint to begin with, unless others are named."""

    variant: Maybe = ""
    checkpoint: Maybe = ""


class Prediction(Message, frozen=True):
    """What a model answers for rows: numbers of `dtype` (F32; I64 for labels that cost), in order, little-endian.

    `epsilon`: what the answers cost, all together.
    """

    checkpoint: str
    dtype: Literal["F32", "I64"]
    shape: Annotated[tuple[Count, ...], Meta(max_length=16)]
    data: bytes
    epsilon: float = 0.0


class AccessRule(Message, frozen=True):
    """What a subject may do with a model. Whoever commits or opens tasks sees it, too.

    `most`: how often each may commit to one task for it; 0: no maximum.
    """

    sees: bool = True
    commits: bool = False
    opens: bool = False
    most: Count = 1


class AccessRules(Message, frozen=True):
    """The rules about a model, by subject. One's own comes before those of groups, these before everybody's."""

    rules: dict[Subject, AccessRule]


MODELS: Endpoint[None, ModelList] = Endpoint(
    "GET", "/v1/models", gives=ModelList, who="signed", query=ModelPage, about="The models that the caller may see"
)
MODEL: Endpoint[None, ModelInfo] = Endpoint(
    "GET", "/v1/models/{model}", gives=ModelInfo, who="signed", about="One model", problems=(ModelNotFound,)
)
PUT_MODEL = Endpoint(
    "PUT",
    "/v1/models/{model}",
    NewModel,
    ModelInfo,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Make a model, which nobody else sees yet, or say something else of it",
    problems=(ModelNotFound, NotAllowed),
)
REMOVE_MODEL: Endpoint[None, Done] = Endpoint(
    "DELETE",
    "/v1/models/{model}",
    gives=Done,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Remove a model with its variants and checkpoints",
    problems=(ModelNotFound, NotAllowed),
)
VARIANT: Endpoint[None, VariantInfo] = Endpoint(
    "GET",
    "/v1/models/{model}/variants/{variant}",
    gives=VariantInfo,
    who="signed",
    about="One variant of a model",
    problems=(ModelNotFound,),
)
PUT_VARIANT = Endpoint(
    "PUT",
    "/v1/models/{model}/variants/{variant}",
    NewVariant,
    VariantInfo,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Make a variant, or say something else of it",
    problems=(ModelNotFound, ModelRefused, NotAllowed),
)
CHECKPOINT: Endpoint[None, CheckpointInfo] = Endpoint(
    "GET",
    "/v1/models/{model}/variants/{variant}/checkpoints/{checkpoint}",
    gives=CheckpointInfo,
    who="signed",
    about="One checkpoint of a variant",
    problems=(ModelNotFound,),
)
PUT_CHECKPOINT = Endpoint(
    "PUT",
    "/v1/models/{model}/variants/{variant}/checkpoints/{checkpoint}",
    NewCheckpoint,
    CheckpointInfo,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Make a checkpoint whose file lies elsewhere",
    problems=(ModelExists, ModelNotFound, NotAllowed),
)
CHECKPOINT_FILE: Endpoint[None, Stream] = Endpoint(
    "GET",
    "/v1/models/{model}/variants/{variant}/checkpoints/{checkpoint}/file",
    gives=Stream,
    who="signed",
    parts=True,
    about="The file of a checkpoint",
    problems=(ModelNotFound, NotAllowed, RangeUnsatisfiable),
)
PUT_CHECKPOINT_FILE = Endpoint(
    "PUT",
    "/v1/models/{model}/variants/{variant}/checkpoints/{checkpoint}/file",
    Stream,
    CheckpointInfo,
    who="signed",
    right=Right.UPLOAD_DATA,
    query=Piece,
    limit=CHECKPOINT_LIMIT,
    about="Make a checkpoint of a file in the safetensors layout; with a plan in it, it can be evaluated here",
    problems=(ModelExists, ModelNotFound, ModelRefused, NotAllowed, TooLarge),
)
HOST = Endpoint(
    "PUT",
    "/v1/models/{model}/hosting",
    Hosting,
    ModelInfo,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Say whether those who see a model may have its files, and its answers, and what these cost",
    problems=(ModelNotFound, ModelRefused, NotAllowed),
)
PREDICT = Endpoint(
    "POST",
    "/v1/models/{model}/predictions",
    Stream,
    Prediction,
    who="signed",
    query=Which,
    limit=ROWS_LIMIT,
    deadline=120.0,
    about="Ask a model about rows: a file in the safetensors layout, with the inputs of its plan by name",
    problems=(
        BudgetSpent, ModelNotFound, ModelRefused, NotAllowed, PlanRefused, TensorsRefused, TooLarge, WorkerBusy,
        WorkerFailed,
    ),
)  # fmt: skip
RULES: Endpoint[None, AccessRules] = Endpoint(
    "GET",
    "/v1/models/{model}/access",
    gives=AccessRules,
    who="signed",
    about="Who may do what with a model: for its owner",
    problems=(ModelNotFound, NotAllowed),
)
PUT_RULE = Endpoint(
    "PUT",
    "/v1/models/{model}/access/{subject}",
    AccessRule,
    AccessRules,
    who="signed",
    about="Say who may do what with a model",
    problems=(ModelNotFound, NotAllowed),
)
DROP_RULE: Endpoint[None, AccessRules] = Endpoint(
    "DELETE",
    "/v1/models/{model}/access/{subject}",
    gives=AccessRules,
    who="signed",
    about="Say so no longer",
    problems=(ModelNotFound, NotAllowed),
)
