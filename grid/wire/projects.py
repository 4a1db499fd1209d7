"""Projects: signed documents that say what a group of sites does together, and the calls on them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta

from grid.wire.directory import Done
from grid.wire.documents import Signed
from grid.wire.endpoint import Endpoint
from grid.wire.message import Document, Message
from grid.wire.names import Address, Count, Digest, Name, NodeId, PublicKey, Seconds, Text
from grid.wire.problems import NoParticipants, OutOfTurn, ProjectNotFound, ProjectRefused
from grid.wire.runs import After, Event, Events, RunId

PROJECT = "project"
"""The signing domain of `Project`."""
MEMBERSHIP = "project-membership"
"""The signing domain of `Membership`."""

BatchState = Literal["standby", "running", "stopping", "success", "failed", "stopped"]
ProjectId = Annotated[str, Meta(pattern=r"^[a-z0-9]{20,40}\Z", description="Drawn at random by the coordinator")]
Role = Literal["coordinator", "participant"]


class ProjectTask(Document, frozen=True):
    """One of a project's tasks: `plan`, the digest of its bundle, and `parameters` as `wire.runs.Task` names them.

    What each run has of its own is left out: its id, its coordinator, its times. `continues`: it begins with what
    the task before it has learned, not with the plan's own parameters; the first task begins with those in any case.
    """

    plan: Digest
    parameters: Annotated[dict[str, Any], Meta(max_length=32)]
    name: Name = "train"
    continues: bool = True


class Project(Document, frozen=True):
    """What is to be done, in order; signed by the coordinator. Who takes part is not in it: no site hears of others."""

    project: ProjectId
    name: Name
    coordinator: PublicKey
    created: Seconds
    tasks: Annotated[tuple[ProjectTask, ...], Meta(min_length=1, max_length=100)]
    about: Text = ""


class Membership(Document, frozen=True):
    """A site takes part in a project, or does no longer (`leaves`); signed by the site. The latest one holds.

    It lets nobody train: that is for the site's owner to allow, who trusts a key or does not.
    """

    project: ProjectId
    coordinator: PublicKey
    node_id: NodeId
    node_address: Address
    created: Seconds
    leaves: bool = False


class CreateProject(Message, frozen=True):
    """Make a project whose plans were handed in. `members` may join it; if it is `open`, everybody may."""

    name: Name
    tasks: Annotated[tuple[ProjectTask, ...], Meta(min_length=1, max_length=100)]
    about: Text = ""
    open: bool = False
    members: Annotated[tuple[PublicKey, ...], Meta(max_length=10_000)] = ()


class Admit(Message, frozen=True):
    """The holder of this key may join a project."""

    public_key: PublicKey


class JoinProject(Message, frozen=True):
    """Take part in the project of the coordinator that answers at an address with this key."""

    project: ProjectId
    coordinator_address: Address
    public_key: PublicKey


class ProjectMember(Message, frozen=True):
    """A site of a project. `state`: invited, joined or left."""

    public_key: PublicKey
    state: Literal["invited", "joined", "left"]
    node_id: str = ""
    node_address: str = ""


class ProjectRun(Message, frozen=True):
    """A run of a project's task; a task that was started again in its batch has several."""

    task: Count
    run: RunId
    state: str = ""


class Batch(Message, frozen=True):
    """One time through all tasks: `task` is the one that it is at."""

    number: Count
    state: BatchState
    task: Count
    created: Seconds
    reason: str = ""
    runs: tuple[ProjectRun, ...] = ()


class ProjectInfo(Message, frozen=True):
    """A project as one of its sites sees it: the coordinator's owner all members, a participant itself."""

    project: Signed
    role: Role
    members: tuple[ProjectMember, ...] = ()
    batches: tuple[Batch, ...] = ()
    coordinator_address: str = ""


class ProjectList(Message, frozen=True):
    """The projects that a node coordinates and those that it joined, newest first; without their batches."""

    projects: tuple[ProjectInfo, ...]


CREATE_PROJECT = Endpoint(
    "POST",
    "/v1/projects",
    CreateProject,
    ProjectInfo,
    who="owner",
    about="Make a project; this node becomes its coordinator",
    limit=4 * 1024 * 1024,
    problems=(ProjectRefused,),
)
PROJECTS: Endpoint[None, ProjectList] = Endpoint(
    "GET", "/v1/projects", gives=ProjectList, who="owner", about="The projects of this node"
)
PROJECT_INFO: Endpoint[None, ProjectInfo] = Endpoint(
    "GET",
    "/v1/projects/{project}",
    gives=ProjectInfo,
    who="signed",
    about="One project, as far as the caller may see it",
    problems=(ProjectNotFound,),
)
PROJECT_EVENTS: Endpoint[None, Events] = Endpoint(
    "GET",
    "/v1/projects/{project}/events",
    gives=Events,
    query=After,
    who="signed",
    about="What happens in a project: to its coordinator's owner all, to a participant which task is run",
    entry=Event,
    deadline=40.0,
    problems=(ProjectNotFound,),
)
MEMBER_OF_PROJECT = Endpoint(
    "POST",
    "/v1/projects/{project}/members",
    Signed,
    Done,
    who="signed",
    about="Join a project, or leave it: a membership that the caller signed",
    problems=(ProjectNotFound, ProjectRefused),
)
ADMIT = Endpoint(
    "POST",
    "/v1/projects/{project}/admissions",
    Admit,
    Done,
    who="owner",
    about="Let the holder of a key join a project",
    problems=(ProjectNotFound,),
)
JOIN_PROJECT = Endpoint(
    "POST",
    "/v1/memberships",
    JoinProject,
    ProjectInfo,
    who="owner",
    about="Have this node join a project",
    deadline=30.0,
    problems=(ProjectNotFound, ProjectRefused),
)
LEAVE_PROJECT: Endpoint[None, Done] = Endpoint(
    "DELETE",
    "/v1/memberships/{project}",
    gives=Done,
    who="owner",
    about="Have this node leave a project",
    deadline=30.0,
    problems=(ProjectNotFound,),
)
START_PROJECT: Endpoint[None, ProjectInfo] = Endpoint(
    "POST",
    "/v1/projects/{project}/start",
    gives=ProjectInfo,
    who="owner",
    about="Run all tasks of a project, in order: a new batch",
    problems=(ProjectNotFound, NoParticipants, OutOfTurn),
)
STOP_PROJECT: Endpoint[None, ProjectInfo] = Endpoint(
    "POST",
    "/v1/projects/{project}/stop",
    gives=ProjectInfo,
    who="owner",
    about="Stop the batch that goes on",
    problems=(ProjectNotFound, OutOfTurn),
)
RESTART_PROJECT: Endpoint[None, ProjectInfo] = Endpoint(
    "POST",
    "/v1/projects/{project}/restart",
    gives=ProjectInfo,
    who="owner",
    about="Go on with the newest batch at the first task that did not succeed; if all did, begin a new batch",
    problems=(ProjectNotFound, NoParticipants, OutOfTurn),
)
