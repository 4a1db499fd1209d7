"""Models at a node: model, variant, checkpoint; and who may see them, commit to tasks for them, and open such tasks."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from grid.wire.directory import Done
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.message import Message
from grid.wire.names import Count, Name, Seconds, Text
from grid.wire.problems import (
    ModelExists,
    ModelNotFound,
    ModelRefused,
    NotAllowed,
    RangeUnsatisfiable,
    TooLarge,
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
    problems=(ModelNotFound, RangeUnsatisfiable),
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
