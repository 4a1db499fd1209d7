"""What is written down of projects: each change together with the event that tells of it, in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from grid.node.records import as_events
from grid.protocol.documents import read_document
from grid.protocol.project import OVER, Batch
from grid.store import events, projects
from grid.store.database import Database
from grid.store.events import EventLog
from grid.store.projects import ProjectRow
from grid.store.runs import COORDINATOR, PARTICIPANT, Role
from grid.store.schema import Transaction
from grid.wire import projects as wire
from grid.wire.documents import Signed
from grid.wire.message import MSGPACK, encode
from grid.wire.problems import BadSignature
from grid.wire.runs import After, Events


class Kept(msgspec.Struct, frozen=True):
    """A project in which this node has a role: what was signed, where its coordinator answers, who may join."""

    project: wire.Project
    signed: Signed
    role: Role
    address: str
    is_open: bool


class ProjectRecords:
    """The rows and the log of this node's projects."""

    def __init__(self, database: Database, log: EventLog, now: Callable[[], float]) -> None:
        self._db, self._log, self._now = database, log, now

    async def created(self, project: wire.Project, signed: Signed, admitted: Iterable[str], *, is_open: bool) -> None:
        """This node coordinates a project from now on. Raises ProjectRefused if the name is taken."""
        at, keys = self._now(), list(admitted)
        row = ProjectRow(project.project, COORDINATOR, project.name, encode(signed, MSGPACK), at, open=is_open)

        def work(connection: Transaction) -> None:
            projects.refuse_taken(connection, project.name)
            projects.add_project(connection, row)
            for key in keys:
                projects.admit(connection, project.project, key)
            _tell(connection, project.project, "created", at, {"name": project.name})

        await self._db.write(work)

    async def joined(self, project: wire.Project, signed: Signed, address: str) -> None:
        """This node takes part in a project whose coordinator answers at `address`."""
        row = ProjectRow(project.project, PARTICIPANT, project.name, encode(signed, MSGPACK), self._now(), address)
        await self._db.write(lambda connection: projects.add_project(connection, row))

    async def left(self, project: str) -> None:
        """It does so no longer."""
        await self._db.write(lambda connection: projects.remove_project(connection, project, PARTICIPANT))

    async def admitted(self, project: str, public_key: str) -> None:
        """The holder of a key may join."""
        at = self._now()

        def work(connection: Transaction) -> None:
            projects.admit(connection, project, public_key)
            _tell(connection, project, "admitted", at, {"site": public_key})

        await self._db.write(work)

    async def member(self, membership: wire.Membership, signed: Signed) -> None:
        """A site joined, or left."""
        at, kind = self._now(), "left" if membership.leaves else "joined"
        told = {"site": signed.signer, "node": membership.node_id}

        def work(connection: Transaction) -> None:
            projects.set_membership(connection, membership.project, signed.signer, encode(signed, MSGPACK))
            _tell(connection, membership.project, kind, at, told)

        await self._db.write(work)

    async def moved(self, batch: Batch) -> None:
        """A batch is in another state, or at another task; the owner and all members are told."""
        at = self._now()
        kind = "batch-ended" if batch.state in OVER else f"batch-{batch.state}"
        told = {"batch": batch.number, "state": batch.state, "task": batch.task, "run": batch.run}

        def work(connection: Transaction) -> None:
            projects.put_batch(connection, batch, at)
            _tell(connection, batch.project, kind, at, {**told, "reason": batch.reason})
            events.append(connection, _all(batch.project), kind, at, told)

        await self._db.write(work)

    # --- questions ----------------------------------------------------------------------------------

    async def project(self, project: str, role: Role = COORDINATOR) -> Kept:
        """One project. Raises ProjectNotFound."""
        return _kept(await self._db.read(lambda connection: projects.get_project(connection, project, role)))

    async def projects(self) -> list[Kept]:
        """All projects of this node, newest first."""
        return [_kept(row) for row in await self._db.read(projects.list_projects)]

    async def memberships(self, project: str) -> dict[str, Signed | None]:
        """By key: the membership that the site signed, None of those who were admitted and have not joined."""
        rows = await self._db.read(lambda connection: projects.memberships(connection, project))
        return {key: row and msgspec.msgpack.decode(row, type=Signed) for key, row in rows.items()}  # type: ignore[misc]

    async def batches(self, project: str) -> list[tuple[Batch, float]]:
        """A project's batches and when they were begun, oldest first."""
        return await self._db.read(lambda connection: projects.batches(connection, project))

    async def unfinished(self) -> list[Batch]:
        """The batches that were going on when this node stopped."""
        return await self._db.read(projects.unfinished_batches)

    async def runs(self, project: str) -> list[tuple[int, wire.ProjectRun]]:
        """A project's runs, oldest first, each with the number of its batch."""
        rows = await self._db.read(lambda connection: projects.batch_runs(connection, project))
        return [(batch, wire.ProjectRun(task, run, state)) for batch, task, run, state in rows]

    async def events(self, project: str, after: After, *, to_all: bool) -> Events:
        """What was told after a cursor; waits up to `after.wait` seconds for the first of it."""
        topic = _all(project) if to_all else _owner(project)
        return as_events(await self._log.wait(topic, after.after, after.wait), after)


def read_project(signed: Signed) -> wire.Project:
    """A project, as its coordinator signed it. Raises BadSignature."""
    project = read_document(signed, wire.Project, wire.PROJECT)
    if project.coordinator != signed.signer:
        raise BadSignature("a project is signed by its coordinator")
    return project


def read_membership(signed: Signed) -> wire.Membership:
    """A membership, as its site signed it. Raises BadSignature."""
    return read_document(signed, wire.Membership, wire.MEMBERSHIP)


def _kept(row: ProjectRow) -> Kept:
    signed = msgspec.msgpack.decode(row.document, type=Signed)
    return Kept(read_project(signed), signed, row.role, row.address, row.open)


def _owner(project: str) -> str:
    return f"project/{project}"


def _all(project: str) -> str:
    return f"project/{project}/all"


def _tell(connection: Transaction, project: str, kind: str, at: float, told: dict[str, Any]) -> None:
    events.append(connection, _owner(project), kind, at, told)
