"""The participant: takes the invitations that its owner's rules allow, and carries them out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from grid.client.payload import read_prekey
from grid.crypto.identity import public_from_id
from grid.crypto.prekeys import PrekeyPublic
from grid.learning.strategy import read_strategy
from grid.node import finished
from grid.node.journal import Journal
from grid.node.means import Means
from grid.node.participation import BUNDLES, Held, Participation
from grid.node.releasing import Releasing
from grid.node.spending import REFUSED
from grid.protocol.documents import read_document
from grid.store.blobs import Blobs
from grid.transport.auth import Caller
from grid.wire.node import DatasetInfo, Part
from grid.wire.problems import DatasetNotFound, GridError, InviteRefused, Replayed
from grid.wire.runs import TASK, After, Events, Invite, Invited, Task

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Participant:
    """The runs that this node takes part in, at most `most` at once."""

    def __init__(self, means: Means, blobs: Blobs, spawn: Spawn, most: int = 16) -> None:
        self._means, self._blobs, self._spawn, self._most = means, blobs, spawn, most
        self._live: dict[str, Participation] = {}
        self.releasing = Releasing(means)
        for left in blobs.named(BUNDLES + "x").parent.glob(BUNDLES + "*"):
            left.unlink()

    async def invited(self, invite: Invite, caller: Caller) -> Invited:
        """Take part, if the scientist who signed the task may learn from the data that it names.

        Raises:
            BadSignature, Replayed: the task is not the scientist's, or is over.
            AddressRefused: the coordinator's address may not be called from here.
            InviteRefused, NotAllowed: with the reason.
            KeyRevoked: the coordinator's key was revoked, or the scientist's.
        """
        task = read_document(invite.task, Task, TASK, now=self._means.now())
        if caller.public is None or task.coordinator != caller.id:
            raise InviteRefused("the task names another coordinator than the one that invites")
        dataset = self._allowed(task, invite)
        await self._means.gates.admit(task, dataset.name, invite.task.signer)
        prekey = read_prekey(invite.prekey, caller.public, self._means.now())
        if part := self._live.get(task.run):
            part.moved(invite.coordinator_address, prekey)
        else:
            if len(self._live) >= self._most:
                raise InviteRefused(f"this node takes part in {self._most} runs already", retry_after=60.0)
            self._take_part(task, invite, prekey, dataset)
            await self._means.records.joined(task, invite, dataset.name)
        return Invited(node_id=self._means.node_id, dataset=dataset.name, examples=dataset.examples)

    async def resume(self) -> None:
        """Take part again in what was going on when this node stopped, as far as its owner's rules still allow it."""
        for run, invite in await self._means.records.taking_part():
            try:
                task = read_document(invite.task, Task, TASK, now=self._means.now())
                dataset = self._allowed(task, invite)
                await self._means.gates.admit(task, dataset.name, invite.task.signer)
                self._take_part(task, invite, self._still_good(task, invite), dataset)
            except GridError as error:
                log.warning("run %s: %s", run, error.detail)
                await self._means.records.left(run)
                await self._means.ledger.settle(run)
        finished.sweep(self._blobs, self._live)

    def _still_good(self, task: Task, invite: Invite) -> PrekeyPublic | None:
        """The prekey of an invitation, unless its time is over: the coordinator has a newer one then."""
        try:
            return read_prekey(invite.prekey, public_from_id(task.coordinator), self._means.now())
        except Replayed:
            return None

    def _allowed(self, task: Task, invite: Invite) -> DatasetInfo:
        """The dataset for a task, if its scientist may learn from it and its coordinator may be called."""
        for key in (task.coordinator, invite.task.signer):
            self._means.peers.refuse_revoked(key)
        self._means.access.may_train(invite.task.signer)
        if self._means.sums_only and not read_strategy(task.strategy).masked:
            raise InviteRefused("this node's updates may only be seen summed: the task has to be secure")
        if self._means.dp_required and read_strategy(task.strategy).analyses:
            raise InviteRefused(f"{REFUSED}, and an analysis has none")
        self._means.egress.check(invite.coordinator_address)
        return self._dataset(task, invite.task.signer)

    def _take_part(self, task: Task, invite: Invite, prekey: PrekeyPublic | None, dataset: DatasetInfo) -> None:
        signer = invite.task.signer
        account = self._means.house.book.name_of(signer)
        data = Held(dataset, self._means.catalogue.path_of(dataset.name), signer, account)
        address = invite.coordinator_address
        journal = Journal(self._means.records, task.run, self._means.now, self._spawn)
        part = Participation(self._means, task, address, prekey, data, self._blobs, journal, self._make_room)
        self._live[task.run] = part
        self._spawn(self._carry_out(part))

    async def parts(self) -> list[Part]:
        """The runs that this node takes part in, for its owner."""
        return await self._means.records.parts({run: (part.state, part.device) for run, part in self._live.items()})

    async def events(self, run: str, after: After) -> Events:
        """What was noted of this node's part in a run: see `RunRecords.part_events`."""
        return await self._means.records.part_events(run, after)

    async def _make_room(self) -> None:
        """Have one seat given back in which nothing is done at present, if every worker has one."""
        workers = self._means.trainer.status()
        if workers["taken"] < workers["seats"]:
            return
        resting = [part for part in self._live.values() if part.resting]
        if resting:
            await resting[0].rest()

    def running(self) -> dict[str, int]:
        """How many participations are in which state."""
        states = [part.state for part in self._live.values()]
        return {state: states.count(state) for state in states}

    async def _carry_out(self, part: Participation) -> None:
        try:
            await part.carry_out()
        except Exception:
            log.exception("the part in run %s broke", part.task.run)
        finally:
            del self._live[part.task.run]
        if part.task.held:
            await self.releasing.over(part.task, part.address, *part.learned_from)
        await self._means.records.left(part.task.run)  # not when this node stops: then it is taken up again
        await self._means.ledger.settle(part.task.run)
        finished.sweep(self._blobs, self._live)

    def _dataset(self, task: Task, signer: str) -> DatasetInfo:
        """The dataset that a task is for: it has all the tags, and the tensors that the task reads.

        An analysis names its columns in its question, which is not here yet: it must be let have all tensors.
        """
        asker, permissions = self._means.access.asker_of(signer), self._means.permissions
        found = permissions.find(asker, task.tags)
        if found is None:
            raise InviteRefused(f"no dataset here has the tags {' '.join(task.tags)}")
        if read_strategy(task.strategy).analyses:
            permissions.check_ask(asker, found.name)
            return found
        try:
            permissions.check_train(asker, found.name, (*task.inputs, task.target))
        except DatasetNotFound as missing:
            raise InviteRefused(missing.detail) from None
        return found
