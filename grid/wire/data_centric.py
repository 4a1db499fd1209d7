"""PyGrid's data-centric protocol: users, roles, groups, datasets, tensors, requests, in that system's words.

Names of routes and fields are PyGrid's, so that what was written for it finds them. Unknown fields are passed over.
Users are accounts, whose names are addresses of e-mail there; no answer has a password, a salt or a private key.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from grid.wire.endpoint import Endpoint, Who
from grid.wire.names import Name
from grid.wire.node import DType, Shape
from grid.wire.problems import (
    AccountRefused,
    AssociationRefused,
    DatasetExists,
    DatasetNotFound,
    DatasetRefused,
    NotAllowed,
    NotAuthenticated,
    NotFound,
    OutOfTurn,
    RequestRefused,
    TooManyRequests,
    Unreachable,
)
from grid.wire.rights import Right

UPLOAD_LIMIT = 16 * 1024 * 1024
"""Bytes of a dataset in its JSON, which is held whole; larger ones are added at the node's command line."""

Told = dict[str, Any]
Rows = list[dict[str, Any]]
Number = Annotated[int, Meta(ge=1)]
Words = Annotated[str, Meta(max_length=4096)]

FLAGS = {
    "can_triage_requests": Right.TRIAGE_REQUESTS,
    "can_edit_settings": Right.EDIT_SETTINGS,
    "can_create_users": Right.CREATE_USERS,
    "can_create_groups": Right.CREATE_GROUPS,
    "can_edit_roles": Right.EDIT_ROLES,
    "can_manage_infrastructure": Right.MANAGE_INFRASTRUCTURE,
    "can_upload_data": Right.UPLOAD_DATA,
    "can_manage_nodes": Right.MANAGE_NODES,
    "can_make_data_requests": Right.MAKE_REQUESTS,
    "can_manage_privacy_budget": Right.MANAGE_BUDGETS,
}
"""PyGrid's flags (0.5 and PySyft 0.6), as the rights that they are."""


class Row(msgspec.Struct, frozen=True):
    """What travels here: names as they are, unknown fields passed over."""


class Credentials(Row, frozen=True):
    """Who signs in."""

    email: Words
    password: Words


class NewUser(Row, frozen=True):
    """A user to be. `role` is a role's number."""

    email: Words
    password: Words
    role: Number | None = None


class UserChange(Row, frozen=True):
    """What is to be another; each route takes the field of its name. `present` is the password before."""

    email: Words | None = None
    password: Words | None = None
    present: Words = ""
    role: Number | None = None
    groups: list[Number] | None = None


class UserQuery(Row, frozen=True):
    """Users with all of these."""

    email: Words | None = None
    role: Number | None = None
    group: Number | None = None


class RoleAsked(Row, frozen=True):
    """A role to be, or what one is to be: its flags as PyGrid names them."""

    name: Words
    can_triage_requests: bool = False
    can_edit_settings: bool = False
    can_create_users: bool = False
    can_create_groups: bool = False
    can_edit_roles: bool = False
    can_manage_infrastructure: bool = False
    can_upload_data: bool = False
    can_manage_nodes: bool = False
    can_make_data_requests: bool = False
    can_manage_privacy_budget: bool = False

    @property
    def rights(self) -> list[Right]:
        """What it may do."""
        return [right for flag, right in FLAGS.items() if getattr(self, flag)]


class GroupAsked(Row, frozen=True):
    """A group's name."""

    name: Words


class TensorGiven(Row, frozen=True):
    """A tensor and its bytes (little-endian, base64)."""

    name: Name
    dtype: DType
    shape: Shape
    data: bytes


class DatasetGiven(Row, frozen=True):
    """A dataset with its tensors: no archive, no pickle. `private`: found, and not downloaded."""

    name: Name
    tensors: Annotated[list[TensorGiven], Meta(min_length=1, max_length=256)]
    description: Words = ""
    manifest: Words = ""
    tags: list[str] = []
    private: bool = True
    target: Name | None = None


class DatasetAsked(Row, frozen=True):
    """What a dataset is to be described as."""

    description: Words | None = None
    manifest: Words | None = None
    tags: list[str] | None = None
    private: bool | None = None


class RequestGiven(Row, frozen=True):
    """Somebody asks to have a tensor, named as in `/data-centric/tensors`, or a budget."""

    reason: Words
    object_id: Words
    request_type: Literal["permissions", "budget"] = "permissions"
    epsilon: Annotated[float, Meta(gt=0, le=1e6)] | None = None


class RequestDecided(Row, frozen=True):
    """An officer's word; who asked may say `denied` of their own, and withdraws it."""

    status: Literal["accepted", "denied"]
    reason: Words = ""


NOTHING: Any = type(None)


def _call(
    method: str, path: str, about: str, takes: Any = NOTHING, gives: Any = Told, who: Who = "signed", **more: Any
) -> Endpoint[Any, Any]:
    return Endpoint(method, path, takes, gives, who=who, about=f"{about} (PyGrid)", **more)


def _resource(path: str, what: str, takes: Any, problems: tuple[type[Any], ...]) -> tuple[Endpoint[Any, Any], ...]:
    """Listed, made, shown, changed, removed."""
    one = path + "/{id}"
    return (
        _call("GET", path, f"The {what}s that the caller may see", gives=Rows),
        _call("POST", path, f"A new {what}", takes, problems=problems),
        _call("GET", one, f"One {what}", problems=(NotFound,)),
        _call("PUT", one, f"Change a {what}", takes, problems=(NotFound, NotAllowed, *problems)),
        _call("DELETE", one, f"Remove a {what}", problems=(NotFound, NotAllowed, *problems)),
    )


_ACCOUNT = (AccountRefused, NotAllowed, NotFound)
LOGIN = _call(
    "POST", "/users/login", "A token", Credentials, who="anyone", problems=(NotAuthenticated, TooManyRequests)
)
ADD_USER = _call("POST", "/users", "A new user", NewUser, problems=_ACCOUNT)
USERS = _call("GET", "/users", "The users that the caller may see", gives=Rows)
ME = _call("GET", "/users/me", "The caller")
FIND_USERS = _call("POST", "/users/search", "Users by address, role or group", UserQuery, Rows)
USER = _call("GET", "/users/{id}", "One user", problems=(NotFound,))
REMOVE_USER = _call("DELETE", "/users/{id}", "Remove a user", problems=_ACCOUNT)
CHANGES = tuple(
    _call("PUT", f"/users/{{id}}/{what}", f"Another {what}", UserChange, problems=_ACCOUNT)
    for what in ("email", "password", "role", "groups")
)
ROLES = _resource("/roles", "role", RoleAsked, (AccountRefused, NotAllowed))
GROUPS = _resource("/groups", "group", GroupAsked, (AccountRefused, NotAllowed))

_DATA = (DatasetExists, DatasetNotFound, DatasetRefused)
SETUP = _call("GET", "/setup", "The settings", right=Right.EDIT_SETTINGS)
SETUP_STATUS = _call("GET", "/setup/status", "Whether this node has an owner", who="anyone")
DO_SETUP = _call("POST", "/setup", "Make the owner's account", NewUser, who="owner", problems=_ACCOUNT)
METADATA = _call("GET", "/metadata", "Which node this is", who="anyone")
DASHBOARD = _call("GET", "/dashboard", "Counts", right=Right.EDIT_SETTINGS)
DATASETS = _call("GET", "/data-centric/datasets", "The datasets that the caller may find", gives=Rows)
ADD_DATASET = _call(
    "POST",
    "/data-centric/datasets",
    "A new dataset",
    DatasetGiven,
    right=Right.UPLOAD_DATA,
    limit=UPLOAD_LIMIT,
    problems=_DATA,
)
DATASET = _call("GET", "/data-centric/datasets/{id}", "One dataset", problems=_DATA)
CHANGE_DATASET = _call(
    "PUT",
    "/data-centric/datasets/{id}",
    "Describe a dataset anew",
    DatasetAsked,
    right=Right.UPLOAD_DATA,
    problems=_DATA,
)
REMOVE_DATASET = _call(
    "DELETE", "/data-centric/datasets/{id}", "Remove a dataset", right=Right.UPLOAD_DATA, problems=_DATA
)
TENSORS = _call("GET", "/data-centric/tensors", "The tensors that the caller may find", gives=Rows)
TENSOR = _call("GET", "/data-centric/tensors/{id}", "One tensor, described", problems=_DATA)
REQUESTS = _call("GET", "/data-centric/requests", "One's own requests; all for officers", gives=Rows)
ADD_REQUEST = _call(
    "POST",
    "/data-centric/requests",
    "Ask for access",
    RequestGiven,
    right=Right.MAKE_REQUESTS,
    problems=(RequestRefused, DatasetNotFound, TooManyRequests),
)
REQUEST = _call("GET", "/data-centric/requests/{id}", "One request", problems=(NotFound,))
DECIDE = _call(
    "PUT",
    "/data-centric/requests/{id}",
    "Accept or deny a request",
    RequestDecided,
    problems=(NotAllowed, NotFound, OutOfTurn),
)
WITHDRAW = _call("DELETE", "/data-centric/requests/{id}", "Withdraw a request", problems=(NotFound, OutOfTurn))


class AssociationGiven(Row, frozen=True):
    """Ask the network at an address."""

    address: Annotated[str, Meta(min_length=8, max_length=2048)]


class AssociationDecided(Row, frozen=True):
    """What this side's people say of what another asked."""

    id: Words
    response: Literal["accept", "deny"]


_FAILS = (AssociationRefused, NotFound, OutOfTurn, Unreachable)
_SETTINGS: dict[str, Any] = {"right": Right.EDIT_SETTINGS, "problems": _FAILS, "deadline": 60.0}
ASK_ASSOCIATION = _call("POST", "/association-requests/request", "Ask to be associated", AssociationGiven, **_SETTINGS)
DECIDE_ASSOCIATION = _call(
    "POST", "/association-requests/respond", "Accept or deny an association", AssociationDecided, **_SETTINGS
)
ASSOCIATIONS = _call("GET", "/association-requests", "All associations", gives=Rows, **_SETTINGS)
ASSOCIATION = _call("GET", "/association-requests/{id}", "One association", **_SETTINGS)
END_ASSOCIATION = _call("DELETE", "/association-requests/{id}", "End an association", **_SETTINGS)

_WORKERS: dict[str, Any] = {"right": Right.MANAGE_INFRASTRUCTURE, "problems": (NotFound, RequestRefused)}
WORKERS = _call("GET", "/data-centric/workers", "The workers", gives=Rows, **_WORKERS)
ADD_WORKER = _call("POST", "/data-centric/workers", "One worker more", gives=Rows, **_WORKERS)
WORKER = _call("GET", "/data-centric/workers/{id}", "One worker", **_WORKERS)
REMOVE_WORKER = _call("DELETE", "/data-centric/workers/{id}", "One worker less", gives=Rows, **_WORKERS)
