"""The model repository's HTTP under `/v1/repository/`, as doc.ai's tensorio-models has it, which Flea's programs read.

Names of routes and fields are theirs. Unknown fields are passed over, as that server does.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from grid.wire.endpoint import Endpoint
from grid.wire.flea import Health, Optional, Row
from grid.wire.models import Link, Pairs
from grid.wire.names import Name, Text
from grid.wire.problems import ModelExists, ModelNotFound, ModelRefused, NotAllowed
from grid.wire.rights import Right

BASE = "/v1/repository"
MODEL_PATH = f"{BASE}/models/{{model}}"
VARIANT_PATH = f"{MODEL_PATH}/hyperparameters/{{variant}}"
CHECKPOINT_PATH = f"{VARIANT_PATH}/checkpoints/{{checkpoint}}"
PAGE = 1000
"""Names in one answer, at most."""


class Page(Row, frozen=True):
    """So many names, from `marker` on."""

    marker: Optional = ""
    max_items: Annotated[int, Meta(ge=0, le=PAGE)] = 0


class Made(Row, frozen=True):
    """Where something new is, below the repository's address."""

    resource_path: str


class Model(Row, frozen=True):
    """A model."""

    model_id: Optional = ""
    details: Text | UnsetType = UNSET
    canonical_hyperparameters: Optional | UnsetType = UNSET


class ModelHeld(Row, frozen=True):
    """A model, in the wrapping that it travels in."""

    model: Model


class Models(Row, frozen=True):
    """Models that the caller may see."""

    model_ids: tuple[Name, ...]


class Hyperparameters(Row, frozen=True):
    """Hyperparameters of a model, as they are told."""

    model_id: Name
    hyperparameters_id: Name
    upgrade_to: Optional
    canonical_checkpoint: Optional
    hyperparameters: Pairs


class HyperparametersAsked(Row, frozen=True):
    """Hyperparameters as they are made or changed; what is left out stays, and the values never change."""

    hyperparameters_id: Optional = ""
    upgrade_to: Optional | UnsetType = UNSET
    canonical_checkpoint: Optional | UnsetType = UNSET
    hyperparameters: Pairs = {}


class HyperparametersList(Row, frozen=True):
    """The hyperparameters of a model."""

    model_id: Name
    hyperparameters_ids: tuple[Name, ...]


class Checkpoint(Row, frozen=True):
    """A checkpoint: where its file is, and when it came (seconds since 1970, as text)."""

    resource_path: str
    link: str
    created_at: str
    info: Pairs


class CheckpointAsked(Row, frozen=True):
    """A checkpoint whose file lies elsewhere."""

    checkpoint_id: Name
    link: Annotated[Link, Meta(min_length=1)]
    info: Pairs = {}


class Checkpoints(Row, frozen=True):
    """The checkpoints of hyperparameters, in order of name."""

    model_id: Name
    hyperparameters_id: Name
    checkpoint_ids: tuple[Name, ...]


HEALTHZ: Endpoint[None, Health] = Endpoint(
    "GET", f"{BASE}/healthz", gives=Health, about="Model repository: whether it is there"
)
MODELS: Endpoint[None, Models] = Endpoint(
    "GET", f"{BASE}/models", gives=Models, who="signed", query=Page, about="Model repository: the models"
)
CREATE_MODEL = Endpoint(
    "POST",
    f"{BASE}/models",
    ModelHeld,
    Made,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Model repository: a new model",
    problems=(ModelExists,),
)
MODEL: Endpoint[None, ModelHeld] = Endpoint(
    "GET",
    MODEL_PATH,
    gives=ModelHeld,
    who="signed",
    about="Model repository: one model",
    problems=(ModelNotFound,),
)
UPDATE_MODEL = Endpoint(
    "PUT",
    MODEL_PATH,
    ModelHeld,
    ModelHeld,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Model repository: say something else of a model",
    problems=(ModelNotFound, NotAllowed),
)
VARIANTS: Endpoint[None, HyperparametersList] = Endpoint(
    "GET",
    f"{MODEL_PATH}/hyperparameters",
    gives=HyperparametersList,
    who="signed",
    query=Page,
    about="Model repository: the hyperparameters of a model",
    problems=(ModelNotFound,),
)
CREATE_VARIANT = Endpoint(
    "POST",
    f"{MODEL_PATH}/hyperparameters",
    HyperparametersAsked,
    Made,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Model repository: new hyperparameters of a model",
    problems=(ModelExists, ModelNotFound, NotAllowed),
)
VARIANT: Endpoint[None, Hyperparameters] = Endpoint(
    "GET",
    VARIANT_PATH,
    gives=Hyperparameters,
    who="signed",
    about="Model repository: hyperparameters of a model",
    problems=(ModelNotFound,),
)
UPDATE_VARIANT = Endpoint(
    "PUT",
    VARIANT_PATH,
    HyperparametersAsked,
    Hyperparameters,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Model repository: another checkpoint to begin with, or other hyperparameters in place of these",
    problems=(ModelNotFound, ModelRefused, NotAllowed),
)
CHECKPOINTS: Endpoint[None, Checkpoints] = Endpoint(
    "GET",
    f"{VARIANT_PATH}/checkpoints",
    gives=Checkpoints,
    who="signed",
    query=Page,
    about="Model repository: the checkpoints of hyperparameters",
    problems=(ModelNotFound,),
)
CREATE_CHECKPOINT = Endpoint(
    "POST",
    f"{VARIANT_PATH}/checkpoints",
    CheckpointAsked,
    Made,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Model repository: a new checkpoint, whose file lies elsewhere",
    problems=(ModelExists, ModelNotFound, NotAllowed),
)
CHECKPOINT: Endpoint[None, Checkpoint] = Endpoint(
    "GET",
    CHECKPOINT_PATH,
    gives=Checkpoint,
    who="signed",
    about="Model repository: one checkpoint",
    problems=(ModelNotFound,),
)
