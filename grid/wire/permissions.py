"""Who may find, read and train on a node's data, and data that nobody is in to try a plan on."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from grid.wire.accounts import AccountName
from grid.wire.directory import Done, Tags
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.message import Message
from grid.wire.names import Digest, Name, Text
from grid.wire.node import DatasetInfo, Visibility
from grid.wire.problems import DatasetNotFound, DatasetRefused, NotFound
from grid.wire.rights import Right

Action = Annotated[Literal["find", "read", "train"], Meta(description="See it, download it, let a plan learn from it")]


class DatasetChange(Message, frozen=True):
    """What is to be another. `mock`: a file of tensors in the node's own store, or null for none."""

    description: Text | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    mock: Digest | UnsetType | None = UNSET


class Permit(Message, frozen=True):
    """Let a user, or a group, or with neither whoever asks, do something with a dataset or one tensor of it, or not.

    `allow` is null where nothing is to be said any more.
    """

    action: Action
    allow: bool | None
    user: AccountName | None = None
    group: AccountName | None = None
    tensor: Name | None = None


class Permitted(Message, frozen=True):
    """All that is said about who may what, and what those may of whom nothing is said."""

    visibility: Visibility
    permissions: tuple[Permit, ...]
    mock: bool


CHANGE_DATASET = Endpoint(
    "PATCH",
    "/v1/datasets/{name}",
    DatasetChange,
    DatasetInfo,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Describe a dataset anew, or let others see more or less of it",
    problems=(DatasetNotFound, DatasetRefused),
)
PERMISSIONS: Endpoint[None, Permitted] = Endpoint(
    "GET",
    "/v1/datasets/{name}/permissions",
    gives=Permitted,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Who may do what with a dataset",
    problems=(DatasetNotFound,),
)
PERMIT = Endpoint(
    "POST",
    "/v1/datasets/{name}/permissions",
    Permit,
    Done,
    who="signed",
    right=Right.UPLOAD_DATA,
    about="Let somebody do something with a dataset, or not",
    problems=(DatasetNotFound, DatasetRefused, NotFound),
)
MOCK: Endpoint[None, Stream] = Endpoint(
    "GET",
    "/v1/datasets/{name}/mock",
    gives=Stream,
    who="signed",
    about="Tensors like those of a dataset, with nobody's data in them, if its owner made some",
    problems=(DatasetNotFound, NotFound),
)
