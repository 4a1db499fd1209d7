"""What becomes of a closed task: its updates one checkpoint, and that beside those that it was for. Both are jobs of
this node's workers, and go on after a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from grid.faults import point
from grid.learning.layouts import update_layout
from grid.learning.strategy import Strategy, least_updates, read_strategy
from grid.learning.tensors import Layout, header_bytes
from grid.node.appraisal import Appraiser, Basis, Score
from grid.node.means import Means
from grid.node.models import Models, has_plan, learned, load_model, relearned
from grid.node.tasks.jobs import AGAIN, UPDATE, Jobs, is_difference
from grid.node.tasks.registry import Registry, clocked, moved, owned
from grid.protocol import assignment
from grid.protocol.task import (
    AGGREGATING,
    EVALUATING,
    Aggregated,
    AggregationAsked,
    AggregationFailed,
    Archived,
    Evaluated,
    EvaluationAsked,
    EvaluationFailed,
)
from grid.store import models, tasks
from grid.store.models import CheckpointRow
from grid.store.schema import Snapshot, Transaction
from grid.store.tasks import JobRow, TaskRow
from grid.transport.auth import Caller
from grid.wire.problems import GridError, StrategyRefused, WorkerFailed, WorkerLost
from grid.worker.port import FoldJob, Seat

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 3
"""Workers that one sum, or one evaluation, may use up."""

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


class Comparison(Struct, frozen=True):
    """On what checkpoints are compared, and what came of it: the aggregated one, and by name those it was made from."""

    on: Basis
    aggregated: Score | None = None
    others: dict[str, Score] = {}

    @property
    def improved(self) -> bool | None:
        """Whether the aggregated checkpoint's loss is less than that of every other one."""
        if self.aggregated is None:
            return None
        return all(self.aggregated.loss < other.loss for other in self.others.values())


class Sum(NamedTuple):
    """What a sum is made by: which tensors, what of them is not trained, the checkpoint it begins with."""

    layout: Layout
    statistics: tuple[str, ...]
    strategy: Strategy
    base: Path


class Inlet:
    """Updates on their way into a sum: those that say how far they are from their checkpoint are made whole there."""

    def __init__(
        self, seat: Seat, inbox: memoryview, layout: Layout, checkpoints: dict[str, CheckpointRow], models: Models
    ) -> None:
        self._seat, self._inbox, self._layout = seat, inbox, layout
        self._checkpoints, self._models, self._origin = checkpoints, models, ""

    async def load(self, update: Path, checkpoint: str) -> None:
        """The update of a file into the inbox, a whole model. Raises ModelRefused."""
        apart = await asyncio.to_thread(is_difference, update)
        if apart and self._origin != checkpoint:
            origin = self._models.path(self._checkpoints[checkpoint])
            await asyncio.to_thread(load_model, origin, self._layout, self._inbox)
            await self._seat.call("origin")
            self._origin = checkpoint
        await asyncio.to_thread(load_model, update, self._layout, self._inbox)
        if apart:
            await self._seat.call("apart")


class Outcome:
    """Aggregates and evaluates the tasks of this node, each once at a time."""

    def __init__(self, means: Means, registry: Registry, jobs: Jobs, spawn: Spawn) -> None:
        self._folder, self._appraiser, self._spawn = means.folder, Appraiser(means), spawn
        self._registry, self._models, self._jobs, self._db = registry, registry.models, jobs, registry.database

    async def resume(self) -> None:
        """Go on with what was owed when this node stopped."""
        for row in await self._db.read(lambda connection: tasks.tasks_in(connection, AGGREGATING, EVALUATING)):
            self._spawn(self._aggregate(row) if row.task.state == AGGREGATING else self._evaluate(row))

    async def aggregate(self, caller: Caller, name: str) -> TaskRow:
        """Have the updates of a caller's own closed task made one checkpoint; returns at once.

        Raises:
            TaskNotFound, NotAllowed
            OutOfTurn: it is open, or was aggregated.
        """
        row = await self._ask(caller, name, AggregationAsked())
        self._spawn(self._aggregate(row))
        return row

    async def evaluate(self, caller: Caller, name: str, on: Basis) -> TaskRow:
        """Have the aggregated checkpoint compared with all that the task was for; returns at once.

        Raises:
            TaskNotFound, NotAllowed
            OutOfTurn: it is not aggregated.
            DatasetNotFound, NotAllowed, QuestionRefused, BudgetSpent: not on that dataset.
        """
        await self._appraiser.admit(on, caller)
        row = await self._ask(caller, name, EvaluationAsked(), evaluation=msgspec.json.encode(Comparison(on)))
        self._spawn(self._evaluate(row))
        return row

    async def archive(self, caller: Caller, name: str) -> TaskRow:
        """Put a caller's own task away; updates that were never summed are forgotten.

        Raises:
            TaskNotFound, NotAllowed, OutOfTurn
        """
        row = await self._ask(caller, name, Archived())
        await self._forget(await self._db.read(lambda connection: tasks.jobs(connection, name)))
        return row

    async def _ask(self, caller: Caller, name: str, event: object, **other: Any) -> TaskRow:
        def work(connection: Transaction) -> TaskRow:
            now = self._registry.now()
            return moved(connection, clocked(connection, owned(connection, name, caller), now), event, now, **other)

        return await self._db.write(work)

    async def _move(self, row: TaskRow, event: object, **other: Any) -> None:
        await self._db.write(lambda connection: moved(connection, row, event, self._registry.now(), **other))

    # --- the aggregator ---------------------------------------------------------------------------

    async def _aggregate(self, row: TaskRow) -> None:
        try:
            handed_in = await self._db.read(lambda connection: _handed_in(connection, row))
            await _again_if_lost(row, lambda: self._sum(row, handed_in))
        except GridError as error:
            log.warning("task %s was not aggregated: %s", row.task.id, error.detail)
            await self._move(row, AggregationFailed(error.detail))
        else:
            await self._forget(handed_in)

    async def _sum(self, row: TaskRow, handed_in: list[JobRow]) -> None:
        checkpoints = await self._checkpoints(row)
        made = await asyncio.to_thread(self._by, row, checkpoints)
        job = FoldJob(header_bytes(made.layout), made.strategy, made.statistics, updates=len(handed_in))
        seat = await self._folder.open(job)
        try:
            judged = await self._fold(seat, made, checkpoints, handed_in)
            taken = [each for each in judged if each.assignment.state == assignment.ACCEPTED]
            if len(taken) < (least := least_updates(made.strategy)):
                raise StrategyRefused(f"{len(taken)} updates that can be summed; it takes {least}")
            await seat.call("result")
            await self._publish(row, made, seat, judged)
        finally:
            await seat.close()

    def _by(self, row: TaskRow, checkpoints: list[CheckpointRow]) -> Sum:
        here = [self._models.path(each) for each in reversed(checkpoints) if each.digest]
        base = next((path for path in here if has_plan(path)), here[0])
        layout, statistics = learned(base)
        return Sum(layout, statistics, read_strategy(row.strategy), base)

    async def _fold(
        self, seat: Seat, made: Sum, checkpoints: list[CheckpointRow], handed_in: list[JobRow]
    ) -> list[JobRow]:
        """Fold every update that can be; of each, what became of it."""
        inbox = seat.inbox[: update_layout(made.layout, made.strategy, made.statistics).size]
        if made.strategy.needs_current:
            await asyncio.to_thread(load_model, made.base, made.layout, inbox)
            await seat.call("begin", current="inbox", population=len(handed_in))
        else:
            await seat.call("begin")
        judged, inlet = [], Inlet(seat, inbox, made.layout, {each.name: each for each in checkpoints}, self._models)
        for job in handed_in:
            event: object = assignment.Accepted()
            try:
                await inlet.load(self._jobs.blobs.named(UPDATE + job.id), job.checkpoint)
                await seat.call("check", weight=float(job.examples))
                await seat.call("fold", weight=float(job.examples))
            except WorkerFailed:
                raise
            except GridError as refused:
                event = assignment.Rejected(refused.detail)
            after, _ = assignment.advance(job.assignment, event)
            judged.append(replace(job, assignment=after, updated=self._registry.now()))
        return judged

    async def _publish(self, row: TaskRow, made: Sum, seat: Seat, judged: list[JobRow]) -> None:
        """The sum becomes a checkpoint, in one step with what becomes of the task and of its jobs."""
        taken = [each for each in judged if each.assignment.state == assignment.ACCEPTED]
        info = {"task": row.task.id, "updates": str(len(taken)), "examples": str(sum(each.examples for each in taken))}
        outbox, draft = seat.outbox[: made.layout.size], self._models.draft()
        try:
            await asyncio.to_thread(_write, draft.write, made, outbox)
            await draft.commit()
        except BaseException:
            draft.abort()
            raise
        point("after-task-sum")

        def work(connection: Transaction) -> None:
            now = self._registry.now()
            name = _free(connection, row)
            models.add_checkpoint(
                connection,
                CheckpointRow(0, row.model, row.variant, name, draft.digest, draft.size, "", info, now),
            )
            for job in (*judged, *_left_out(connection, row)):
                tasks.put_job(connection, job)
            moved(connection, row, Aggregated(), now, result=name)

        await self._db.write(work)
        point("after-task-summed")

    async def _checkpoints(self, row: TaskRow) -> list[CheckpointRow]:
        def work(connection: Snapshot) -> list[CheckpointRow]:
            return [models.checkpoint(connection, row.model, row.variant, name) for name in row.checkpoints]

        return await self._db.read(work)

    async def _forget(self, jobs: list[JobRow]) -> None:
        for job in jobs:
            self._jobs.blobs.named(UPDATE + job.id).unlink(missing_ok=True)

    # --- the evaluator ----------------------------------------------------------------------------

    async def _evaluate(self, row: TaskRow) -> None:
        asked = msgspec.json.decode(row.evaluation, type=Comparison)
        try:
            checkpoints = [each for each in await self._checkpoints(row) if each.digest]
            result = await self._db.read(lambda c: models.checkpoint(c, row.model, row.variant, row.result))
            paths = [self._models.path(each) for each in (result, *checkpoints)]
            compared = await _again_if_lost(row, lambda: self._appraiser.compare(asked.on, paths, run=row.task.id))
        except GridError as error:
            log.warning("task %s was not evaluated: %s", row.task.id, error.detail)
            await self._move(row, EvaluationFailed(error.detail))
            return
        first, *others = compared
        by_name = {each.name: score for each, score in zip(checkpoints, others, strict=True)}
        await self._move(row, Evaluated(), evaluation=msgspec.json.encode(Comparison(asked.on, first, by_name)))


async def _again_if_lost(row: TaskRow, work: Callable[[], Awaitable[T]]) -> T:
    """Do something with a worker. One that dies in it costs time: another begins anew."""
    for left in reversed(range(TRIES)):
        try:
            return await work()
        except WorkerLost as lost:
            if not left:
                raise
            log.warning("task %s: %s; another worker begins anew", row.task.id, lost.detail)
    raise AssertionError("unreachable")


def comparison_of(row: TaskRow) -> Comparison | None:
    """What came of a task's evaluation, or was asked for."""
    return msgspec.json.decode(row.evaluation, type=Comparison) if row.evaluation else None


def _handed_in(connection: Snapshot, row: TaskRow) -> list[JobRow]:
    return [job for job in tasks.jobs(connection, row.task.id) if job.assignment.state == assignment.UPLOADED]


def _left_out(connection: Snapshot, row: TaskRow) -> list[JobRow]:
    """The jobs that nothing came of: they are over."""
    over = assignment.Expired("the task was summed without it")
    left = [job for job in tasks.jobs(connection, row.task.id) if job.assignment.state in AGAIN]
    return [replace(job, assignment=assignment.advance(job.assignment, over)[0]) for job in left]


def _free(connection: Snapshot, row: TaskRow) -> str:
    """A name for the new checkpoint: the task's, or that with a number where it is taken."""
    taken = {each.name for each in models.checkpoints(connection, row.model, row.variant)}
    names = (f"{row.task.id}-{number}" if number else row.task.id for number in range(len(taken) + 1))
    return next(name for name in names if name not in taken)


def _write(write: Callable[[bytes | memoryview], None], made: Sum, data: memoryview) -> None:
    for block in relearned(made.base, made.layout, data):
        write(block)
