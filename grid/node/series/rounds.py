"""Rounds of a series: each is a task, opened for its first device, closed by its clock or by enough updates.

Places in a round are counted in memory, once its jobs were read: whom there is no place for costs no write.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

from msgspec.structs import replace

from grid.node.series.registry import VARIANT, Series, device_caller, topic
from grid.node.tasks.jobs import Committed, Handing, Jobs
from grid.node.tasks.outcome import Outcome
from grid.node.tasks.registry import Asked, Registry
from grid.node.tasks.watch import REST, Watch
from grid.protocol import assignment, fleet, task
from grid.protocol.fleet import FLEET, TURN, Enough, Mustered, RoundCounted, Summed, TooFew
from grid.protocol.series import LATEST, Door, Refusal, Speeds, admit, next_event, retry_after
from grid.store import events, models, tasks
from grid.store import series as store
from grid.store.models import VariantRow
from grid.store.schema import Snapshot, Transaction
from grid.store.series import DeviceRow, SeriesRow
from grid.store.tasks import JobRow, TaskRow
from grid.transport.auth import OWNER
from grid.wire.problems import CommitsSpent, GridError, TaskClosed

log = logging.getLogger(__name__)

NEVER = 10 * 365 * 86_400.0
"""Seconds of a round that has no end."""
MINUTE = 60.0

_DONE = frozenset({assignment.UPLOADED, assignment.ACCEPTED})
_FAILED = frozenset({assignment.FAILED, assignment.REJECTED, assignment.EXPIRED})


class Taken(NamedTuple):
    """A device takes part in a round: with this ticket it fetches and hands in."""

    row: SeriesRow
    committed: Committed


class Places(NamedTuple):
    """The devices that have one in a round, and when it ends (UTC seconds; 0: never)."""

    devices: set[str]
    ends: float


class Standing(NamedTuple):
    """A series with its newest round's task and jobs."""

    row: SeriesRow
    task: TaskRow | None
    jobs: list[JobRow]

    def count(self, states: frozenset[assignment.State]) -> int:
        """How many devices are in one of these states."""
        return sum(job.assignment.state in states for job in self.jobs)


class Flow:
    """How many came within the last minute, about: counted by the second."""

    def __init__(self) -> None:
        self._seconds: deque[tuple[int, int]] = deque()
        self._total = 0

    def came(self, now: float) -> int:
        """One more came."""
        second = int(now)
        if self._seconds and self._seconds[-1][0] == second:
            self._seconds.append((second, self._seconds.pop()[1] + 1))
        else:
            self._seconds.append((second, 1))
        self._total += 1
        while self._seconds[0][0] <= second - MINUTE:
            self._total -= self._seconds.popleft()[1]
        return self._total


class Rounds:
    """Lets devices into rounds, and moves these."""

    def __init__(
        self, of: Series, registry: Registry, jobs: Jobs, outcome: Outcome, chance: Callable[[], float] = random.random
    ) -> None:
        self._series, self._registry, self._jobs, self._outcome, self._chance = of, registry, jobs, outcome, chance
        self._db, self._one, self._flows = of.database, asyncio.Lock(), dict[int, Flow]()
        self._places: dict[str, Places] = {}
        self._watch = Watch(of, prefix="series-")

    # --- for devices ----------------------------------------------------------------------------

    async def check_in(self, row: SeriesRow, device: DeviceRow, secret: str, speeds: Speeds) -> Taken | Refusal:
        """A device that is known asks to take part."""
        asking = self._flows.setdefault(row.id, Flow()).came(self._series.now())
        if row.fleet.state != fleet.RUNNING:
            return Refusal("over", f"{row.name} {row.version} is {row.fleet.state}: there is no more to do", None)
        if row.turn.state == fleet.WAITING:
            row = await self._begin(row.id)
        if row.turn.state != fleet.COLLECTING:
            return Refusal("between", "the next round has not begun", retry_after(0.0, asking, self._chance()))
        places = await self._held(row)
        mine, now = device.name in places.devices, self._series.now()
        door = Door(row.turn.number, len(places.devices), places.ends)
        refused = (
            None
            if mine
            else admit(
                row.terms,
                door,
                last=device.last,
                speeds=speeds,
                asking=asking,
                chance=(self._chance(), self._chance()),
                now=now,
            )
        )
        if refused is not None:
            return refused
        places.devices.add(device.name)  # nothing was awaited since its places were counted
        return await self._commit(row, secret, device.name, asking)

    async def _commit(self, row: SeriesRow, secret: str, name: str, asking: int) -> Taken | Refusal:
        caller, number = device_caller(secret, row.id), row.turn.number
        try:
            committed, _ = await asyncio.gather(
                self._jobs.commit(caller, row.task),
                self._db.write(lambda connection: store.took_part(connection, name, number)),
            )
        except CommitsSpent:
            return Refusal("handed-in", "this device has handed in for this round", self._later(row, asking))
        except TaskClosed as closed:
            return Refusal("between", closed.detail, self._later(row, asking))
        except BaseException:
            self._free(row.task, name)
            raise
        return Taken(row, committed)

    def _later(self, row: SeriesRow, asking: int) -> float:
        return retry_after(min(row.terms.length, LATEST) / 2, asking, self._chance())

    async def working(self, secret: str, ticket: str) -> tuple[SeriesRow, JobRow]:
        """The job that a device works on, by its ticket. Raises DeviceNotFound, TicketRefused, TaskClosed."""
        row, _ = await self._series.known(secret)
        _, job = await self._jobs.claimed(ticket, device_caller(secret, row.id))
        return row, job

    async def failed(self, secret: str, ticket: str, reason: str) -> None:
        """A device gives up; its place is free. Raises as `working`, and OutOfTurn."""
        row, job = await self.working(secret, ticket)
        await self._jobs.failed(device_caller(secret, row.id), job.assignment.run, job.id, reason)
        self._free(job.assignment.run, job.client)

    def _free(self, name: str, device: str) -> None:
        if (places := self._places.get(name)) is not None:
            places.devices.discard(device)

    def handing_in(self, secret: str, number: int, ticket: str) -> AbstractAsyncContextManager[Handing]:
        """As `Jobs.handing_in`, for a device of a series."""
        return self._jobs.handing_in(ticket, device_caller(secret, number))

    # --- the scheduler --------------------------------------------------------------------------

    async def keep(self, rest: float = REST) -> None:
        """Look whenever something may have changed, for as long as this node runs."""
        await self._watch.keep(self.tick, rest)

    async def tick(self) -> None:
        """Move every series that goes on as far as it can go."""
        async with self._one:
            for row in await self._db.read(store.all_series):
                try:
                    while row.fleet.state == fleet.RUNNING and await self._move(row.id):
                        pass
                except GridError as error:
                    log.warning("series %d could not be moved: %s", row.id, error.detail)

    async def _move(self, number: int) -> bool:
        at = await self._db.read(lambda connection: _standing(connection, number))
        if at.task is None or at.row.fleet.state != fleet.RUNNING:
            return False
        match at.row.turn.state:
            case fleet.COLLECTING:
                return await self._close(at, at.task)
            case fleet.AGGREGATING:
                return await self._end(at, at.task)
        return False

    async def _begin(self, number: int) -> SeriesRow:
        """Open the round for its first device."""
        async with self._one:
            row = await self._db.read(lambda connection: store.series(connection, number))
            if row.turn.state != fleet.WAITING or row.fleet.state != fleet.RUNNING:
                return row
            now = self._series.now()
            ends = now + (row.terms.length or NEVER)
            asked = Asked(
                name=row.task,
                model=row.model,
                variant=VARIANT,
                ends=ends,
                checkpoints=(row.checkpoint,),
                strategy=row.terms.strategy,
            )
            await self._registry.open_round(asked)
            return await self._put(row, Mustered())

    async def _held(self, row: SeriesRow) -> Places:
        """Who has a place in the round that goes on."""
        if row.task not in self._places:

            def work(connection: Snapshot) -> Places:
                jobs = tasks.jobs(connection, row.task)
                held = {job.client for job in jobs if job.assignment.state not in _FAILED}
                return Places(held, tasks.get_task(connection, row.task).task.ends if row.terms.length else 0.0)

            found = await self._db.read(work)
            return self._places.setdefault(row.task, found)
        return self._places[row.task]

    async def _close(self, at: Standing, held: TaskRow) -> bool:
        """Sum, if there are enough; give up, if the time is over and there are not."""
        if held.task.state in (task.AGGREGATING, task.AGGREGATED):  # this node was stopped in between
            await self._put(at.row, Enough())
            return True
        if held.task.state == task.ARCHIVED:  # likewise
            return await self._give_up(at.row, TooFew("too few devices handed in"))
        event = next_event(
            at.row.terms,
            held=len(at.jobs),
            done=at.count(_DONE),
            failed=at.count(_FAILED),
            over=held.task.state != task.OPEN or self._series.now() >= held.task.ends,
        )
        if event is None:
            return False
        await self._registry.change(OWNER, at.row.task, opened=False)
        if isinstance(event, TooFew):
            await self._outcome.archive(OWNER, at.row.task)
            return await self._give_up(at.row, event)
        await self._outcome.aggregate(OWNER, at.row.task)
        await self._put(at.row, event)
        return True

    async def _end(self, at: Standing, held: TaskRow) -> bool:
        """The next round begins with the sum; if there is none, with what this one began with."""
        if held.task.state == task.AGGREGATING:
            return False
        if held.task.state == task.CLOSED:
            await self._outcome.archive(OWNER, at.row.task)
            return await self._give_up(at.row, TooFew(held.task.reason))
        if at.count(frozenset({assignment.ACCEPTED})) < at.row.terms.least:
            return await self._give_up(at.row, TooFew("too few updates could be summed"))
        await self._put(at.row, Summed(), follows=held.result)
        return True

    async def _give_up(self, row: SeriesRow, event: TooFew) -> bool:
        await self._put(row, event, follows=row.checkpoint)
        return True

    async def _put(self, row: SeriesRow, event: Mustered | Enough | TooFew | Summed, follows: str = "") -> SeriesRow:
        """A series after an event of its round; with `follows`, the round is over, and the next begins with that."""
        now, over = self._series.now(), row.task

        def work(connection: Transaction) -> SeriesRow:
            after, _ = TURN.advance(row.turn, event)
            told = {"round": after.number, "reason": after.reason, "checkpoint": follows or row.checkpoint}
            events.append(connection, topic(row.id), after.state, now, told)
            changed = replace(row, turn=after)
            if follows:
                counted = row.fleet
                if after.state == fleet.COMPLETE:
                    counted, _ = FLEET.advance(row.fleet, RoundCounted())
                    models.change_variant(connection, VariantRow(row.model, VARIANT, "", {}, follows, "", now))
                changed = replace(row, turn=fleet.Turn(after.number + 1), fleet=counted, checkpoint=follows)
                if counted.state != row.fleet.state:
                    events.append(connection, topic(row.id), counted.state, now, {})
            store.put_series(connection, changed)
            return changed

        made = await self._db.write(work)
        if follows:
            self._places.pop(over, None)
        return made


def _standing(connection: Snapshot, number: int) -> Standing:
    row = store.series(connection, number)
    if row.turn.state == fleet.WAITING:
        return Standing(row, None, [])
    return Standing(row, tasks.get_task(connection, row.task), tasks.jobs(connection, row.task))
