"""FriendlyFL's HTTP under `/friendlyfl/api/v1/`: its routes, its fields, its numbers.

Names of routes, fields and states are those of friendlyfl-router, so that a controller written for it finds them. Each
path is answered with and without the slash at its end. Unknown fields are passed over, as that router does.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from grid.wire.endpoint import Endpoint, Stream
from grid.wire.names import Count
from grid.wire.problems import (
    AccountRefused,
    EnvelopeRefused,
    Full,
    NoParticipants,
    NotAllowed,
    NotFound,
    OutOfTurn,
    ProjectRefused,
)
from grid.wire.runs import BUNDLE_LIMIT

BASE = "/friendlyfl/api/v1"
PAGE = 20
"""Rows on one page of a list."""

Label = Annotated[str, Meta(min_length=1, max_length=256)]
Words = Annotated[str, Meta(max_length=4096)]
Uid = Annotated[str, Meta(pattern=r"^[0-9a-fA-F-]{32,36}\Z", description="A UUID")]
Rows = dict[str, Any]
"""A page: count, next, previous, results."""


class Row(msgspec.Struct, frozen=True):
    """What travels here: names as they are, unknown fields passed over."""


class PageQuery(Row, frozen=True):
    """Which page of a list."""

    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class User(Row, frozen=True):
    """An account, as it is told: never its password. `groups` by their numbers."""

    id: int
    username: str
    email: str
    date_joined: str
    groups: list[int] = []


class UserAsked(Row, frozen=True):
    """An account as it is made or changed; what is left out stays."""

    username: Label | None = None
    password: Annotated[str, Meta(max_length=1024)] | None = None
    email: Words | None = None
    groups: Annotated[list[int], Meta(max_length=1000)] | None = None


class Group(Row, frozen=True):
    """A group of accounts."""

    id: int
    name: str


class GroupAsked(Row, frozen=True):
    """A group as it is made or changed."""

    name: Annotated[str, Meta(min_length=1, max_length=150)]


class Site(Row, frozen=True):
    """A site. `status`: 0 disconnected, 1 connected."""

    id: int
    name: str
    description: str
    uid: str
    owner: str
    status: int
    created_at: str
    updated_at: str


class SiteAsked(Row, frozen=True):
    """A site as it is made or changed."""

    name: Label | None = None
    description: Words | None = None
    uid: Uid | None = None


class Heartbeat(Row, frozen=True):
    """A site is there (1), or goes (0)."""

    uid: Uid
    status: Annotated[int, Meta(ge=0, le=1)] = 1


class UidQuery(Row, frozen=True):
    """Which site."""

    uid: Uid


class Project(Row, frozen=True):
    """A project. `site` coordinates it; `batch` is its newest one."""

    id: int
    name: str
    description: str
    site: int
    tasks: list[Any]
    batch: int
    created_at: str
    updated_at: str


class ProjectAsked(Row, frozen=True):
    """A project as it is made, joined or changed."""

    name: Label | None = None
    description: Words | None = None
    site: int | None = None
    tasks: Annotated[list[Any], Meta(max_length=100)] | None = None


class ProjectQuery(Row, frozen=True):
    """Projects of a site, or by name."""

    site_id: int | None = None
    name: str | None = None


class Participant(Row, frozen=True):
    """A site in a project. `role`: CO or PA."""

    id: int
    site: int
    project: int
    role: str
    notes: str
    created_at: str
    updated_at: str


class ParticipantAsked(Row, frozen=True):
    """A place in a project as it is asked for, or its notes."""

    site: int | None = None
    project: int | None = None
    role: Annotated[str, Meta(pattern=r"^(CO|PA)\Z")] = "PA"
    notes: Words = ""


class OfProject(Row, frozen=True):
    """Which project."""

    project: int


class Run(Row, frozen=True):
    """A site's part in a batch. `status`: one of nine numbers; files are told of, not shown."""

    id: int
    project: int
    participant: int
    site_uid: str
    batch: int
    cur_seq: int
    tasks: list[Any]
    role: str
    status: int
    logs: list[Any]
    artifacts: list[Any]
    middle_artifacts: list[Any]
    created_at: str
    updated_at: str


class RunChange(Row, frozen=True):
    """What a controller says of its run. Nothing that a site has made is taken in clear."""

    status: Annotated[int, Meta(ge=0, le=8)] | None = None
    logs: Any = None
    artifacts: Any = None
    middle_artifacts: Any = None


class StatusAsked(Row, frozen=True):
    """A move: of one's own part, or by the coordinator of all; `increase_round`: to the next round."""

    status: Annotated[int, Meta(ge=0, le=8)]
    update_all: bool = False
    increase_round: bool = False


class RunQuery(Row, frozen=True):
    """Which runs."""

    project: int | None = None
    batch: int | None = None
    site: int | None = None
    site_uid: str | None = None
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class Action(Row, frozen=True):
    """Stop or restart a batch. The role is read from the record, not from here."""

    action: Annotated[str, Meta(pattern=r"^(stop|restart)\Z")]
    run: int
    project: int | None = None
    batch: int | None = None
    role: str = ""


class DownloadQuery(Row, frozen=True):
    """Which files: of a run, or for its coordinator of all runs of its batch; of a task, of a round."""

    run: int
    type: Annotated[str, Meta(pattern=r"^(artifacts|mid_artifacts|logs)\Z")] = "artifacts"
    task_seq: Count | None = None
    round_seq: Count | None = None
    all_runs: bool = False


def _call(method: str, path: str, about: str, **more: Any) -> Endpoint[Any, Any]:
    problems = (NotAllowed, NotFound, *more.pop("problems", ()))
    return Endpoint(method, BASE + path, about=about, who="account", problems=problems, **more)


def _resource(
    path: str, name: str, asked: type, told: type, refusals: tuple[Any, ...]
) -> tuple[Endpoint[Any, Any], ...]:
    """List, create, read, replace, change, delete."""
    one, refused = path + "/{id}", {"problems": refusals}
    return (
        _call("GET", path, f"Your {name}s", gives=Rows, query=PageQuery),
        _call("POST", path, f"A new {name}", takes=asked, gives=told, **refused),
        _call("GET", one, f"One {name}", gives=told),
        _call("PUT", one, f"Change a {name}", takes=asked, gives=told, **refused),
        _call("PATCH", one, f"Change a {name} in part", takes=asked, gives=told, **refused),
        _call("DELETE", one, f"Remove a {name}", **refused),
    )


SITE_LOOKUP = _call("GET", "/sites/lookup", "The site of a uid", query=UidQuery, gives=Site)
HEARTBEAT = _call("POST", "/sites/heartbeat", "A site says that it is there", takes=Heartbeat, gives=Site)
PROJECT_LOOKUP = _call("GET", "/projects/lookup", "Projects by site or name", query=ProjectQuery, gives=list[Project])
PARTICIPANT_LOOKUP = _call(
    "GET", "/project-participants/lookup", "Who is in a project", query=OfProject, gives=list[Participant]
)
USERS = _resource("/users", "account", UserAsked, User, (AccountRefused,))
GROUPS = _resource("/groups", "group", GroupAsked, Group, (AccountRefused,))
SITES = _resource("/sites", "site", SiteAsked, Site, (ProjectRefused,))
PROJECTS = _resource("/projects", "project", ProjectAsked, Project, (ProjectRefused,))
PARTICIPANTS = _resource("/project-participants", "participant", ParticipantAsked, Participant, (ProjectRefused,))

RUN_LOOKUP = _call("GET", "/runs/lookup", "Runs of a project or site", query=RunQuery, gives=list[Run])
RUNS_ACTIVE = _call("GET", "/runs/active", "Runs that go on", query=RunQuery, gives=list[Run])
RUN_DETAIL = _call(
    "GET", "/runs/detail", "The runs of a batch that the caller may see", query=RunQuery, gives=list[Run]
)
RUNS = _call("GET", "/runs", "The runs that the caller may see", query=PageQuery, gives=Rows)
OPEN_BATCH = _call(
    "POST",
    "/runs",
    "A new batch: a run for each participant",
    takes=OfProject,
    gives=list[Run],
    problems=(NoParticipants, OutOfTurn, ProjectRefused),
)
RUN = _call("GET", "/runs/{id}", "One run", gives=Run)
CHANGE_RUN = _call(
    "PUT", "/runs/{id}", "Change a run", takes=RunChange, gives=Run, problems=(EnvelopeRefused, OutOfTurn)
)
RUN_STATUS = _call("PUT", "/runs/{id}/status", "Move a run", takes=StatusAsked, gives=Run, problems=(OutOfTurn,))
ACTION = _call("PUT", "/runs-action/update", "Stop or restart a batch", takes=Action, gives=Run, problems=(OutOfTurn,))
UPLOAD = _call(
    "POST",
    "/runs-action/upload",
    "Leave sealed envelopes with a run: a multipart form",
    takes=Stream,
    gives=Run,
    limit=BUNDLE_LIMIT,
    deadline=120.0,
    problems=(EnvelopeRefused, Full),
)
DOWNLOAD = _call(
    "GET", "/runs-action/download", "Envelopes that were left with runs, in a ZIP", query=DownloadQuery, gives=Stream
)
