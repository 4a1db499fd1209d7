"""Jobs: a client commits to a task, and hands in once, with the ticket that it was given, while the task is open."""

from __future__ import annotations

import asyncio
import hmac
import math
import os
from array import array
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from msgspec.structs import replace

from grid.crypto.encoding import b64
from grid.faults import point
from grid.learning.tensors import MAX_HEADER, Layout, data_offset, header_bytes, read_header
from grid.node.models import called, head_of, learned, seen
from grid.node.tasks.registry import Registry, topic, visible
from grid.protocol import assignment
from grid.protocol.assignment import Assignment
from grid.protocol.model_access import admit_commit
from grid.protocol.task import admit_commit as admit_while_open
from grid.store import events, models, tasks
from grid.store.blobs import Blobs, Draft
from grid.store.schema import Snapshot, Transaction
from grid.store.tasks import JobRow, TaskRow
from grid.transport.auth import Caller
from grid.wire.problems import (
    CommitsSpent,
    ModelNotFound,
    ModelRefused,
    NotInvited,
    OutOfTurn,
    TaskClosed,
    TaskNotFound,
    TensorsRefused,
    TicketRefused,
    UpdateRefused,
    UpdateRepeated,
)

UPDATE = "update-"
"""An update that waits for its sum is a file of this name and its job."""

_WIDE = {"F32": "f", "F64": "d"}
BLOCK = 256 * 1024
KIND, DIFFERENCE = "update", "difference"
"""What stands in the metadata of an update that says how far it is from its checkpoint."""

AGAIN = frozenset({assignment.COMMITTED, assignment.FETCHED, assignment.TRAINING, assignment.FAILED})
"""The states of a job that its client may begin anew: nothing of it was taken."""

Claim = Callable[[Snapshot], tuple[TaskRow, JobRow]]
"""Whose update may come in: looked at when it begins, and again when it is all here."""

STEPS = ((assignment.COMMITTED, assignment.Fetched()), (assignment.FETCHED, assignment.TrainingStarted()))
"""What a client says of itself between its commitment and its update, each in the state in which it is news."""


class Committed(NamedTuple):
    """A client may work on a task, from this checkpoint, and hands in with this ticket."""

    task: TaskRow
    job: JobRow
    ticket: str


class Jobs:
    """Who works on which task. Updates lie in `blobs` from the moment they are acknowledged to their sum."""

    def __init__(self, registry: Registry, blobs: Blobs, entropy: Callable[[int], bytes] = os.urandom) -> None:
        self._registry, self._db, self.blobs, self._entropy = registry, registry.database, blobs, entropy
        self._arriving: set[str] = set()

    async def sweep(self) -> None:
        """Remove the files of updates that were never acknowledged, or are in a sum, and of tasks that came to nothing.

        At the start only.
        """
        needed = await self._db.read(tasks.bundles)
        for path in await asyncio.to_thread(lambda: list(self.blobs.folder.glob("??/??/*"))):
            if path.name not in needed:
                self.blobs.delete(path.name)
        kept = {UPDATE + job for job in await self._db.read(tasks.waiting)}
        for path in self.blobs.named(UPDATE).parent.glob(UPDATE + "*"):
            if path.name not in kept:
                path.unlink()

    async def commit(self, caller: Caller, name: str, checkpoint: str = "") -> Committed:
        """Take a caller on, with the task's newest checkpoint unless it names another one of it.

        One that has handed in nothing may begin its job anew; the ticket that it had is good no more.

        Raises:
            TaskNotFound
            TaskClosed: it is not open, or its deadline has passed.
            NotAllowed, CommitsSpent: the model's owner does not let the caller, or not that often.
            ModelNotFound: the task is not for that checkpoint.
        """
        secret, number = b64(self._entropy(32)), str(UUID(bytes=self._entropy(16), version=4))
        client, digest = called(caller), sha256(secret.encode()).digest()

        def work(connection: Transaction) -> tuple[TaskRow, JobRow]:
            now = self._registry.now()
            row = visible(connection, name, caller)
            admit_while_open(row.task, now)
            chosen = checkpoint or row.checkpoints[-1]
            if chosen not in row.checkpoints:
                raise ModelNotFound(f"task {name} is not for checkpoint {chosen}, but for {', '.join(row.checkpoints)}")
            job = self._job(connection, row, caller, number)
            after, _ = assignment.advance(job.assignment, assignment.Committed())
            job = replace(job, checkpoint=chosen, ticket=digest, assignment=after, updated=now)
            tasks.put_job(connection, job)
            events.append(connection, topic(name), "committed", now, {"client": client, "job": job.id})
            return row, job

        row, job = await self._db.write(work)
        return Committed(row, job, f"{job.id}.{secret}")

    def _job(self, connection: Snapshot, row: TaskRow, caller: Caller, number: str) -> JobRow:
        """A new job, or the one that a caller may begin anew. Raises NotAllowed, CommitsSpent."""
        client, now = called(caller), self._registry.now()
        mine = tasks.jobs(connection, row.task.id, client)
        _, rule = seen(connection, row.model, caller)
        try:
            admit_commit(rule, row.task.id, len(mine))
        except CommitsSpent:
            for job in mine:
                if job.assignment.state in AGAIN and job.id not in self._arriving:
                    return job
            raise
        return JobRow(number, client, "", b"", Assignment(row.task.id, 1, client), 0, now, now)

    async def failed(self, caller: Caller, name: str, number: str, reason: str) -> None:
        """A client gives up. Raises TaskNotFound; OutOfTurn: it has handed in already."""

        def work(connection: Transaction) -> None:
            now, job = self._registry.now(), tasks.get_job(connection, number)
            if job.assignment.run != name or job.client != called(caller):
                raise TaskNotFound("there is no such job of yours")
            if job.assignment.state == assignment.FAILED:
                return
            if job.assignment.state in tasks.HANDED_IN:
                raise OutOfTurn("this job's update was handed in, and that holds")
            after, _ = assignment.advance(job.assignment, assignment.Failed(reason))
            tasks.put_job(connection, replace(job, assignment=after, updated=now))
            events.append(connection, topic(name), "failed", now, {"job": number, "reason": reason})

        await self._db.write(work)

    # --- handing in -------------------------------------------------------------------------------

    @asynccontextmanager
    async def handing_in(self, ticket: str, caller: Caller) -> AsyncIterator[Handing]:
        """Whoever shows a ticket hands in, if it is the one whose it is, or says nothing of itself; once at a time.

        Raises:
            TicketRefused: there is none like it, or it is another caller's.
            TaskClosed: its task is not open any more.
            UpdateRepeated: it was used, or is being used.
        """
        async with self._handing(partial(self._admitted, ticket=ticket, caller=caller)) as handing:
            yield handing

    @asynccontextmanager
    async def handing_in_as(self, caller: Caller, name: str) -> AsyncIterator[Handing]:
        """The same for a client that says who it is, and has no ticket: it hands in for its one job of a task.

        Raises:
            TaskNotFound, TaskClosed, UpdateRepeated
            NotInvited: it has not committed to the task.
        """
        async with self._handing(partial(self._own, caller=caller, name=name)) as handing:
            yield handing

    @asynccontextmanager
    async def _handing(self, claim: Claim) -> AsyncIterator[Handing]:
        row, job = await self._db.read(claim)
        if job.id in self._arriving:
            raise UpdateRepeated("an update is arriving for this very job")
        self._arriving.add(job.id)
        try:
            yield Handing(self, claim, row, job, await self._layout(row))
        finally:
            self._arriving.discard(job.id)

    async def claimed(self, ticket: str, caller: Caller) -> tuple[TaskRow, JobRow]:
        """The task and the job that a ticket is for, while they go on. Raises as `handing_in`."""
        return await self._db.read(partial(self._admitted, ticket=ticket, caller=caller))

    async def progressed(self, caller: Caller, name: str, steps: int) -> JobRow:
        """How far a client says that it is: it has the model (1), it trains (2). Raises as `handing_in_as`."""

        def work(connection: Transaction) -> JobRow:
            _, job = self._own(connection, caller, name)
            after = job.assignment
            for state, event in STEPS[:steps]:
                if after.state == state:
                    after, _ = assignment.advance(after, event)
            job = replace(job, assignment=after, updated=self._registry.now())
            tasks.put_job(connection, job)
            return job

        return await self._db.write(work)

    def _own(self, connection: Snapshot, caller: Caller, name: str) -> tuple[TaskRow, JobRow]:
        row = visible(connection, name, caller)
        mine = tasks.jobs(connection, name, called(caller))
        if not mine or mine[-1].assignment.state == assignment.FAILED:
            raise NotInvited(f"commit to task {name} first")
        if mine[-1].assignment.state in tasks.HANDED_IN:
            raise UpdateRepeated("this job's update is here, and counts once")
        admit_while_open(row.task, self._registry.now())
        return row, mine[-1]

    def _admitted(self, connection: Snapshot, ticket: str, caller: Caller) -> tuple[TaskRow, JobRow]:
        number, _, secret = ticket.partition(".")
        try:
            job = tasks.get_job(connection, number)
        except TaskNotFound:
            raise TicketRefused from None
        if not hmac.compare_digest(job.ticket, sha256(secret.encode()).digest()):
            raise TicketRefused
        if caller.kind != "anonymous" and called(caller) != job.client:
            raise TicketRefused("this ticket is another's")
        row = tasks.get_task(connection, job.assignment.run)
        admit_while_open(row.task, self._registry.now())
        if job.assignment.state in tasks.HANDED_IN:
            raise UpdateRepeated("this ticket was used")
        return row, job

    async def _layout(self, row: TaskRow) -> Layout:
        def here(connection: Snapshot) -> list[models.CheckpointRow]:
            found = [models.checkpoint(connection, row.model, row.variant, name) for name in row.checkpoints]
            return [each for each in found if each.digest]

        first = (await self._db.read(here))[0]
        return (await asyncio.to_thread(learned, self._registry.models.path(first)))[0]

    async def register(self, number: str, claim: Claim, draft: Draft, examples: int) -> JobRow:
        """An update is all here: on disk, and its row committed, when this returns. Raises as `handing_in`."""
        point("before-task-file")
        path = await draft.commit(UPDATE + number)
        point("after-task-file")

        def work(connection: Transaction) -> JobRow:
            now = self._registry.now()
            row, job = claim(connection)
            after, _ = assignment.advance(job.assignment, assignment.Uploaded())
            weighed = min(examples, row.most_examples)
            job = replace(job, assignment=after, examples=weighed, updated=now)
            tasks.put_job(connection, job)
            told = {"client": job.client, "job": number, "examples": weighed}
            events.append(connection, topic(row.task.id), "handed-in", now, told)
            return job

        try:
            job = await self._db.write(work)
        except (TicketRefused, TaskClosed):
            path.unlink(missing_ok=True)
            raise
        point("after-task-row")
        return job


class Handing(NamedTuple):
    """An update on its way in: what it must look like, and where it goes."""

    jobs: Jobs
    claim: Claim
    task: TaskRow
    job: JobRow
    layout: Layout

    @property
    def limit(self) -> int:
        """Bytes: the most that its file of tensors may have."""
        return self.layout.size + MAX_HEADER + 8

    def draft(self) -> Draft:
        """A file for its tensors."""
        return self.jobs.blobs.create(self.limit)

    async def register(self, draft: Draft, examples: int) -> JobRow:
        """It is all here, and learned from so many examples. Raises as `Jobs.register`."""
        return await self.jobs.register(self.job.id, self.claim, draft, examples)


def take_tensors(blocks: Iterable[bytes], layout: Layout, draft: Draft) -> None:
    """A file of tensors into a draft, if it is of that layout; otherwise no more than its header is read.

    Raises:
        UpdateRefused: the detail says what is different, or which tensor has numbers that are not finite.
    """
    head, wanted = bytearray(), 0
    try:
        for block in blocks:
            if not wanted or len(head) < wanted:
                head += block
                if not wanted and len(head) >= 8:
                    wanted = data_offset(head)
                if wanted and len(head) >= wanted:
                    read_header(head)[0].require(layout)
            draft.write(block)
    except TensorsRefused as error:
        raise UpdateRefused(f"its tensors are not what the task's model needs: {error.detail}") from None
    settle_tensors(draft, layout, wanted)


def check_tensors(draft: Draft, layout: Layout) -> None:
    """The same of a draft that is a file of tensors already. Raises UpdateRefused."""
    draft.cut()
    try:
        with draft.path.open("rb", buffering=0) as file:
            held, _, offset = head_of(file)
        held.require(layout)
    except (ModelRefused, TensorsRefused) as error:
        raise UpdateRefused(f"its tensors are not what the task's model needs: {error.detail}") from None
    settle_tensors(draft, layout, offset)


class DifferenceIn:
    """A file of tensors on its way into a draft that says how far a model is from the checkpoint it began with.

    It is that checkpoint less what was learned, so that whoever sums takes it off again.
    """

    def __init__(self, draft: Draft, layout: Layout) -> None:
        self._draft, self._layout = draft, layout
        self._head, self._offset = bytearray(), 0

    def feed(self, block: bytes) -> None:
        """The next bytes of the file. Raises UpdateRefused: its tensors are others; TooLarge."""
        if self._offset:
            self._draft.write(block)
            return
        self._head += block
        try:
            if len(self._head) < 8 or len(self._head) < (end := data_offset(self._head)):
                return
            self._begin(read_header(self._head)[0])
        except TensorsRefused as error:
            raise UpdateRefused(f"its tensors are not what the task's model needs: {error.detail}") from None
        self._draft.write(self._head[end:])
        self._head.clear()

    def settle(self) -> None:
        """All of it is there. Raises UpdateRefused."""
        settle_tensors(self._draft, self._layout, self._offset)

    def _begin(self, held: Layout) -> None:
        held.require(self._layout)
        if other := sorted(spec.name for spec in held.specs if spec.dtype not in _WIDE):
            raise TensorsRefused(f"a difference is of float32 or float64, and {', '.join(other[:5])} is not")
        header = header_bytes(self._layout, {KIND: DIFFERENCE})
        self._draft.write(header)
        self._offset = len(header)


def is_difference(path: Path) -> bool:
    """Whether an update says how far it is from its checkpoint, instead of what was learned. Raises ModelRefused."""
    with path.open("rb", buffering=0) as file:
        return head_of(file)[1].get(KIND) == DIFFERENCE


def settle_tensors(draft: Draft, layout: Layout, offset: int) -> None:
    """All of a file of tensors is in a draft, whose data begin at `offset`. Raises UpdateRefused as `take_tensors`."""
    came = max(0, draft.size - offset)
    if not offset or came != layout.size:
        raise UpdateRefused(f"{came} bytes of tensors where {layout.size} are expected")
    draft.cut()
    _check_finite(draft, layout, offset)


def _check_finite(draft: Draft, layout: Layout, offset: int) -> None:
    """No number may be infinite or none at all; of half-width ones the sum's worker sees to that.

    Raises:
        UpdateRefused
    """
    with draft.path.open("rb") as file:
        for spec, begin, end in layout.slots:
            if spec.dtype not in _WIDE:
                continue
            file.seek(offset + begin)
            for start in range(begin, end, BLOCK):
                numbers = array(_WIDE[spec.dtype], file.read(min(BLOCK, end - start)))
                # A sum is finite if all numbers are, but for doubles near their end: then look at each.
                if not math.isfinite(sum(numbers)) and not all(map(math.isfinite, numbers)):
                    raise UpdateRefused(f"tensor {spec.name!r} has numbers that are not finite")
