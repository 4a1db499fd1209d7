"""This node's projects: those that it coordinates, and those that it joined."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable
from contextlib import suppress

from grid.crypto.identity import public_from_id
from grid.learning.plan import Plan
from grid.learning.study import Study
from grid.node.batches import Batches
from grid.node.checkpoints import BUNDLE
from grid.node.means import Means
from grid.node.project_records import Kept, ProjectRecords, read_membership, read_project
from grid.protocol.documents import sign_document
from grid.protocol.project import task_of
from grid.store.blobs import Blobs
from grid.store.runs import COORDINATOR, PARTICIPANT
from grid.transport.auth import Caller
from grid.wire import projects as wire
from grid.wire.documents import Signed
from grid.wire.problems import BadSignature, NotAllowed, ProjectNotFound, ProjectRefused
from grid.wire.runs import After, Events


class Projects:
    """What the owner of this node, and the sites of its projects, ask. `address` is where other sites reach it."""

    def __init__(
        self, means: Means, blobs: Blobs, records: ProjectRecords, batches: Batches, address: Callable[[], str]
    ) -> None:
        self._means, self._blobs, self._records, self._batches = means, blobs, records, batches
        self._address = address

    def go_on(self) -> None:
        """This node answers again: the batches that were going on go on."""
        self._batches.go_on()

    # --- as coordinator ---------------------------------------------------------------------------

    async def create(self, asked: wire.CreateProject) -> wire.ProjectInfo:
        """Make a project of which this node is the coordinator.

        Raises:
            ProjectRefused: a plan is missing or does not go on from the one before, or a parameter is wrong.
        """
        me, now = self._means.identity.id, self._means.now()
        for task in asked.tasks:
            task_of(task, secrets.token_hex(16), task.plan, me, now)
        if not (asked.open or asked.members):
            raise ProjectRefused("nobody could join: name members, or let everybody in")
        project = wire.Project(secrets.token_hex(16), asked.name, me, now, asked.tasks, asked.about)
        await asyncio.to_thread(self._take_plans, project)
        signed = sign_document(self._means.identity, wire.PROJECT, project)
        await self._records.created(project, signed, asked.members, is_open=asked.open)
        return await self._told(await self._records.project(project.project), None)

    def _take_plans(self, project: wire.Project) -> None:
        """Keep the project's plans for as long as there is the project, and look whether they fit each other."""
        before: Plan | None = None  # a question goes on from nothing, and nothing from it
        for task in project.tasks:
            bundle = self._blobs.named(BUNDLE + task.plan)
            kept = self._batches.path(project.project, task.plan)
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with suppress(FileExistsError):
                    os.link(bundle, kept)
            except FileNotFoundError:
                why = f"the plan of task {task.name} was not handed in; put its bundle first"
                raise ProjectRefused(why) from None
            plan = self._batches.plan(project.project, task.plan)
            going = plan.plan if isinstance(plan, Study) else plan
            if going is None:
                continue
            if before is not None and task.continues and going.layout != before.layout:
                raise ProjectRefused(f"task {task.name} cannot go on from another kind of model")
            before = plan if isinstance(plan, Plan) else before

    async def admit(self, project: str, public_key: str) -> None:
        """Let the holder of a key join. Raises ProjectNotFound."""
        await self._records.project(project)
        await self._records.admitted(project, public_key)

    async def start(self, project: str) -> wire.ProjectInfo:
        """Run all tasks: a new batch. Raises ProjectNotFound, OutOfTurn, NoParticipants."""
        kept = await self._records.project(project)
        await self._batches.start(kept.project)
        return await self._told(kept, None)

    async def stop(self, project: str) -> wire.ProjectInfo:
        """Stop the batch that goes on. Raises ProjectNotFound, OutOfTurn."""
        kept = await self._records.project(project)
        await self._batches.stop(project)
        return await self._told(kept, None)

    async def restart(self, project: str) -> wire.ProjectInfo:
        """Go on at the first task that did not succeed. Raises ProjectNotFound, OutOfTurn, NoParticipants."""
        kept = await self._records.project(project)
        await self._batches.restart(kept.project)
        return await self._told(kept, None)

    # --- what sites ask of the coordinator -----------------------------------------------------------

    async def member(self, project: str, caller: Caller, signed: Signed) -> wire.Membership:
        """A site joins, or leaves.

        Raises:
            ProjectNotFound: for who was not admitted, too.
            BadSignature: signed by somebody else than the caller.
            ProjectRefused: it is of another project, or older than the one that holds.
        """
        kept = await self._records.project(project)
        if caller.id != signed.signer:
            raise BadSignature("a site signs its own membership")
        members = await self._records.memberships(project)
        if signed.signer not in members and not kept.is_open:
            raise ProjectNotFound
        said, held = read_membership(signed), members.get(signed.signer)
        if (said.project, said.coordinator) != (project, kept.project.coordinator):
            raise ProjectRefused("this membership is of another project")
        if held is not None and read_membership(held).created >= said.created:
            raise ProjectRefused("a later membership of this site is here")
        if not said.leaves:
            self._means.egress.check(said.node_address)
        await self._records.member(said, signed)
        return said

    async def info(self, project: str, caller: Caller) -> wire.ProjectInfo:
        """One project: all of it for the owner; for a site that was admitted, its own part.

        Raises:
            ProjectNotFound: there is none, or not for this caller.
        """
        if caller.owner:
            roles = [kept for kept in await self._records.projects() if kept.project.project == project]
            if not roles:
                raise ProjectNotFound
            coordinated = [kept for kept in roles if kept.role == COORDINATOR]
            return await self._told((coordinated or roles)[0], None)
        return await self._told(await self._seen_by(project, caller), caller.id)

    async def events(self, project: str, caller: Caller, after: After) -> Events:
        """What happened after a cursor: all for the owner, the course of batches for a site. Raises ProjectNotFound."""
        if caller.owner:
            await self._records.project(project)
        else:
            await self._seen_by(project, caller)
        return await self._records.events(project, after, to_all=not caller.owner)

    async def list(self) -> wire.ProjectList:
        """The projects of this node, newest first, without their batches."""
        kept = await self._records.projects()
        return wire.ProjectList(tuple(wire.ProjectInfo(k.signed, k.role, coordinator_address=k.address) for k in kept))

    async def _seen_by(self, project: str, caller: Caller) -> Kept:
        kept = await self._records.project(project)
        if not kept.is_open and caller.id not in await self._records.memberships(project):
            raise ProjectNotFound
        return kept

    # --- as participant --------------------------------------------------------------------------------

    async def join(self, asked: wire.JoinProject) -> wire.ProjectInfo:
        """Have this node take part. Who may train here is another question, which its owner answers.

        Raises:
            ProjectNotFound: the coordinator has none of this id for this node.
            BadSignature: it is not signed by the coordinator that was named.
        """
        address, peer = asked.coordinator_address, public_from_id(asked.public_key)
        info = await self._means.calls.call(address, wire.PROJECT_INFO, peer=peer, project=asked.project)
        project = read_project(info.project)
        if (project.project, project.coordinator) != (asked.project, asked.public_key):
            raise BadSignature("the coordinator gives another project than the one that was named")
        await self._say(project, address, leaves=False)
        await self._records.joined(project, info.project, address)
        return await self._told(await self._records.project(asked.project, PARTICIPANT), None)

    async def leave(self, project: str) -> None:
        """Have this node take part no longer. Raises ProjectNotFound."""
        kept = await self._records.project(project, PARTICIPANT)
        await self._say(kept.project, kept.address, leaves=True)
        await self._records.left(project)

    async def _say(self, project: wire.Project, address: str, *, leaves: bool) -> None:
        """Tell the coordinator that this node takes part, or does no longer."""
        if not self._address():
            raise NotAllowed("this node does not answer yet")
        said = wire.Membership(
            project=project.project,
            coordinator=project.coordinator,
            node_id=self._means.node_id,
            node_address=self._address(),
            created=self._means.now(),
            leaves=leaves,
        )
        signed = sign_document(self._means.identity, wire.MEMBERSHIP, said)
        peer = public_from_id(project.coordinator)
        await self._means.calls.call(address, wire.MEMBER_OF_PROJECT, signed, peer=peer, project=project.project)

    # --- answers ---------------------------------------------------------------------------------------

    async def _told(self, kept: Kept, only: str | None) -> wire.ProjectInfo:
        """A project with its members, of them `only` one (a key; None: all), and its batches."""
        project = kept.project.project
        if kept.role == PARTICIPANT:
            return wire.ProjectInfo(kept.signed, PARTICIPANT, coordinator_address=kept.address)
        members = (await self._records.memberships(project)).items()
        runs = await self._records.runs(project)
        return wire.ProjectInfo(
            kept.signed,
            COORDINATOR if only is None else PARTICIPANT,
            tuple(_member(key, signed) for key, signed in members if only in {None, key}),
            tuple(
                wire.Batch(
                    b.number,
                    b.state.value,
                    b.task,
                    created,
                    b.reason if only is None else "",
                    tuple(run for number, run in runs if number == b.number),
                )
                for b, created in await self._records.batches(project)
            ),
        )


def _member(key: str, signed: Signed | None) -> wire.ProjectMember:
    if signed is None:
        return wire.ProjectMember(key, "invited")
    said = read_membership(signed)
    return wire.ProjectMember(key, "left" if said.leaves else "joined", said.node_id, said.node_address)
