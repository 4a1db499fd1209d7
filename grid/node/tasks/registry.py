"""The tasks of this node: who opens them, for which checkpoints, until when; every change on disk with its event."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec.structs import replace

from grid.learning.strategy import Exact, Plain, Prox, QFair, Strategy, Sum, Synchronous, read_strategy
from grid.node.models import Models, called, learned, seen
from grid.node.records import as_events
from grid.protocol import task as machine
from grid.protocol.model_access import admit_open
from grid.protocol.task import Closed, DeadlinePassed, Opened, Task, advance
from grid.store import events, models, tasks
from grid.store.database import Database
from grid.store.events import EventLog
from grid.store.models import CheckpointRow
from grid.store.schema import Snapshot, Transaction
from grid.store.tasks import TaskRow
from grid.transport.auth import OWNER, Caller
from grid.wire.problems import (
    ModelNotFound,
    ModelRefused,
    NotAllowed,
    OutOfTurn,
    RunRefused,
    StrategyRefused,
    TaskExists,
    TaskNotFound,
)
from grid.wire.runs import After, Events

MOST_EXAMPLES = 16_384
"""So much an update weighs at most, unless its task says otherwise: whoever claims more is believed no more."""

OPENED = "tasks"
"""The topic of the log that those listen to who wait for a task."""

LOOK = 3600.0
"""Seconds after which the clock is looked at again in any case: it may have been set."""


@dataclass(frozen=True)
class Asked:
    """A task to be, until `ends` (UTC seconds), for the `checkpoints` of a variant, or the range `first` to `last`.

    `bundle` is the SHA-256 of its one file, if that is here, `link` where it lies otherwise.
    """

    name: str
    model: str
    variant: str
    ends: float
    checkpoints: Sequence[str] = ()
    first: str = ""
    last: str = ""
    opened: bool = True
    bundle: str = ""
    link: str = ""
    strategy: dict[str, Any] | str = "fedavg"
    most_examples: int = MOST_EXAMPLES


@dataclass
class Registry:
    """Tasks as rows; what else happens to them is in the modules beside. `changed` rings when one may end earlier."""

    database: Database
    log: EventLog
    models: Models
    now: Callable[[], float]
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def open_round(self, asked: Asked) -> None:
        """A task of this node's own; if it was stopped when this had just been opened, that one, until `asked.ends`.

        Raises:
            TaskExists: somebody else's, for another model, has the name.
        """
        try:
            await self.register(OWNER, asked)
        except TaskExists:
            if (await self.get(OWNER, asked.name)).model != asked.model:
                raise
            await self.change(OWNER, asked.name, ends=asked.ends, opened=True)

    async def register(self, caller: Caller, asked: Asked) -> TaskRow:
        """A new task, open at once or a draft.

        Raises:
            TaskExists: the name is taken.
            ModelNotFound, ModelRefused: what it is for is not there, or its checkpoints are of different models.
            NotAllowed: the model's owner does not let the caller open tasks for it.
            RunRefused: its deadline has passed.
            StrategyRefused: its updates cannot be summed by that strategy.
        """
        strategy, now = summable(asked.strategy), self.now()
        chosen = await self.database.read(lambda connection: _chosen(connection, caller, asked))
        await asyncio.to_thread(self._check_alike, chosen)
        row = TaskRow(
            task=Task(asked.name, asked.ends),
            owner=called(caller),
            model=asked.model,
            variant=asked.variant,
            checkpoints=tuple(each.name for each in chosen),
            bundle=asked.bundle,
            link=asked.link,
            strategy=msgspec.to_builtins(strategy),
            most_examples=asked.most_examples,
            created=now,
        )

        def work(connection: Transaction) -> TaskRow:
            _chosen(connection, caller, asked)  # it may have lost the right, or the model, meanwhile
            tasks.add_task(connection, row)
            events.append(connection, topic(asked.name), "registered", now, {"model": asked.model})
            return moved(connection, row, Opened(asked.ends, now), now) if asked.opened else row

        made = await self.database.write(work)
        self.changed.set()
        return made

    async def refuse_taken(self, name: str) -> None:
        """Before a task's file is read: whether the name is taken. Raises TaskExists."""

        def work(connection: Snapshot) -> bool:
            return any(row.task.id == name for row in tasks.find_tasks(connection, first=name))

        if await self.database.read(work):
            raise TaskExists(f"there is a task {name} already")

    async def change(
        self, caller: Caller, name: str, *, ends: float | None = None, opened: bool | None = None
    ) -> TaskRow:
        """Close a task, open it again, or give it another deadline.

        Raises:
            TaskNotFound, NotAllowed
            OutOfTurn: it is being summed, or was.
            RunRefused: the deadline has passed.
        """

        def work(connection: Transaction) -> TaskRow:
            now = self.now()
            row = clocked(connection, owned(connection, name, caller), now)
            if opened or (ends is not None and (opened is None or ends > now)):
                row = moved(connection, row, Opened(row.task.ends if ends is None else ends, now), now)
            if opened is False and row.task.state != machine.CLOSED:
                row = moved(connection, row, Closed(), now)
            return row

        made = await self.database.write(work)
        self.changed.set()
        return made

    async def attach(self, caller: Caller, name: str, file: str) -> TaskRow:
        """Give a draft its one file, by its SHA-256. Raises TaskNotFound, NotAllowed; OutOfTurn: it was opened."""

        def work(connection: Transaction) -> TaskRow:
            row = owned(connection, name, caller)
            if row.task.state != machine.DRAFT:
                raise OutOfTurn(f"task {name} is {row.task.state}: its file is what clients rely on")
            tasks.set_bundle(connection, name, file)
            return replace(row, bundle=file)

        return await self.database.write(work)

    async def get(self, caller: Caller, name: str) -> TaskRow:
        """One task, as of now. Raises TaskNotFound."""
        return await self.database.read(lambda connection: as_of(visible(connection, name, caller), self.now()))

    async def own(self, caller: Caller, name: str) -> TaskRow:
        """One of a caller's own tasks, as of now. Raises TaskNotFound, NotAllowed."""
        return await self.database.read(lambda connection: as_of(owned(connection, name, caller), self.now()))

    async def find(
        self,
        caller: Caller,
        model: str = "",
        variant: str = "",
        checkpoint: str = "",
        *,
        first: str = "",
        most: int = 0,
        closed: bool = False,
        wait: float = 0.0,
    ) -> list[TaskRow]:
        """Open tasks for a model, variant and checkpoint, in order of name; at most `most` of them, if that is not 0.

        With `closed` also those that are over; drafts are their owner's alone. If there are none, it waits for one, for
        `wait` seconds.
        """
        until = asyncio.get_running_loop().time() + wait
        while True:
            cursor = await self.database.read(lambda connection: events.last(connection, OPENED))
            found = await self._find(caller, (model, variant, checkpoint), first, most, closed=closed)
            left = until - asyncio.get_running_loop().time()
            if found or left <= 0 or not await self.log.wait(OPENED, cursor, left):
                return found

    async def _find(
        self, caller: Caller, of: tuple[str, str, str], first: str, most: int, *, closed: bool
    ) -> list[TaskRow]:

        def work(connection: Snapshot) -> list[TaskRow]:
            found: list[TaskRow] = []
            for row in tasks.find_tasks(connection, *of, first, opened=not closed):
                now = as_of(row, self.now())
                if _listed(now, caller, closed=closed) and _sees(connection, row, caller):
                    found.append(now)
                if most and len(found) == most:
                    break
            return found

        return await self.database.read(work)

    async def statistics(self, caller: Caller, *, name: str = "", model: str = "") -> list[tuple[str, int, int]]:
        """By client: how often it committed to a task, or to all of a model, and how often it handed in.

        Raises:
            TaskNotFound, ModelNotFound
            NotAllowed: they are for the owner of the model, and of the task.
        """

        def work(connection: Snapshot) -> list[tuple[str, int, int]]:
            row = visible(connection, name, caller) if name else None
            whose = {models.model(connection, row.model if row else model).owner, row.owner if row else None}
            if not row:
                seen(connection, model, caller)
            if not caller.owner and caller.name not in whose:
                raise NotAllowed("these figures are for the owner of the model")
            return tasks.statistics(connection, name=name, model="" if name else model)

        return await self.database.read(work)

    async def events(self, caller: Caller, name: str, after: After) -> Events:
        """What happened to one of a caller's own tasks after a cursor; waits for the first of it.

        Raises:
            TaskNotFound, NotAllowed
        """
        await self.own(caller, name)
        return as_events(await self.log.wait(topic(name), after.after, after.wait), after)

    def figures(self) -> tasks.Figures:
        """All tasks together, for whoever watches this node."""
        return self.database.read_now(lambda connection: tasks.figures(connection, self.now()))

    async def keep(self) -> None:
        """Close each task at its deadline, for as long as this node runs."""
        while True:
            self.changed.clear()
            ends = await self.database.read(tasks.next_end)
            left = LOOK if ends is None else min(LOOK, max(0.0, ends - self.now()))
            try:
                async with asyncio.timeout(left):
                    await self.changed.wait()
            except TimeoutError:
                await self.expire()

    async def expire(self) -> None:
        """Close the tasks whose deadline has passed."""

        def work(connection: Transaction) -> None:
            for row in tasks.tasks_in(connection, machine.OPEN):
                clocked(connection, row, self.now())

        await self.database.write(work)

    def _check_alike(self, chosen: Sequence[CheckpointRow]) -> None:
        layouts = {learned(self.models.path(each)) for each in chosen if each.digest}
        if not layouts:
            raise ModelRefused("none of the task's checkpoints has its file here, so that no update could be checked")
        if len(layouts) > 1:
            raise ModelRefused("the task's checkpoints are of different models")


def topic(name: str) -> str:
    """Under which topic of the log a task's story stands."""
    return f"task/{name}"


def moved(connection: Transaction, row: TaskRow, event: object, now: float, **other: Any) -> TaskRow:
    """A task after an event, `other` fields changed, on disk together with what is told of it. Raises OutOfTurn."""
    after, _ = advance(row.task, event)
    changed = replace(row, task=after, **other)
    tasks.move_task(connection, changed)
    if after.state == machine.OPEN != row.task.state:
        events.append(connection, OPENED, after.state, now, {"task": after.id})
    if after != row.task:
        told = {"state": after.state, "ends": after.ends, "reason": after.reason}
        events.append(connection, topic(after.id), after.state, now, told)
    return changed


def clocked(connection: Transaction, row: TaskRow, now: float) -> TaskRow:
    """A task, closed if its deadline has passed, whether or not a timer rang."""
    if row.task.state == machine.OPEN and now >= row.task.ends:
        return moved(connection, row, DeadlinePassed(now), now)
    return row


def as_of(row: TaskRow, now: float) -> TaskRow:
    """The same for whoever only looks."""
    if row.task.state == machine.OPEN and now >= row.task.ends:
        return replace(row, task=advance(row.task, DeadlinePassed(now))[0])
    return row


def visible(connection: Snapshot, name: str, caller: Caller) -> TaskRow:
    """A task whose model the caller may see, or its own. Raises TaskNotFound."""
    row = tasks.get_task(connection, name)
    if not _sees(connection, row, caller) or (row.task.state == machine.DRAFT and not _owns(row, caller)):
        raise TaskNotFound(f"there is no task {name} that you may see")
    return row


def owned(connection: Snapshot, name: str, caller: Caller) -> TaskRow:
    """A caller's own task. Raises TaskNotFound, NotAllowed."""
    row = visible(connection, name, caller)
    if not _owns(row, caller):
        raise NotAllowed(f"task {name} is another's")
    return row


def _owns(row: TaskRow, caller: Caller) -> bool:
    return caller.owner or (caller.name is not None and caller.name == row.owner)


def _sees(connection: Snapshot, row: TaskRow, caller: Caller) -> bool:
    if _owns(row, caller):
        return True
    try:
        seen(connection, row.model, caller)
    except ModelNotFound:
        return False
    return True


def _listed(row: TaskRow, caller: Caller, *, closed: bool) -> bool:
    if row.task.state == machine.DRAFT:
        return closed and _owns(row, caller)
    return closed or row.task.state == machine.OPEN


def _chosen(connection: Snapshot, caller: Caller, asked: Asked) -> list[CheckpointRow]:
    """The checkpoints that a task is for, oldest first. Raises ModelNotFound, ModelRefused, NotAllowed."""
    _, rule = seen(connection, asked.model, caller)
    admit_open(rule, asked.model)
    if asked.first or asked.last:
        if asked.checkpoints or not (asked.first and asked.last):
            raise RunRefused("a task is for a list of checkpoints, or for a range from a first to a last one")
        return models.checkpoint_range(connection, asked.model, asked.variant, asked.first, asked.last)
    found = [models.checkpoint(connection, asked.model, asked.variant, name) for name in asked.checkpoints]
    if not found:
        raise RunRefused("a task is for at least one checkpoint")
    return sorted({each.name: each for each in found}.values(), key=lambda each: each.number)


def summable(data: dict[str, Any] | str) -> Strategy:
    """The strategy of a task, if updates that say nothing but their examples can be summed by it.

    Raises:
        StrategyRefused
    """
    strategy = read_strategy(data)
    fits = (
        isinstance(strategy.client, Plain | Prox)
        and not isinstance(strategy.aggregation, QFair | Sum)
        and strategy.timing == Synchronous()
        and strategy.upload == strategy.broadcast == Exact()
    )
    if not fits:
        raise StrategyRefused("devices hand in whole models and how many examples they learned from, nothing else")
    return strategy
