"""Rounds of fleets: each is a task of this node, opened when enough devices can train, summed when enough have.

One look (`tick`) moves each project as far as it can go. The node looks by itself whenever something changed that could
move one, and when a round's time is over; so nothing waits for a clock that ticks every ten minutes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from msgspec.structs import replace

from grid.node.fleet.registry import VARIANT, Fleets, eligible, topic, visible
from grid.node.tasks.jobs import Jobs
from grid.node.tasks.outcome import Outcome
from grid.node.tasks.registry import Asked, Registry
from grid.node.tasks.watch import REST, Watch
from grid.protocol import assignment, fleet, task
from grid.protocol.fleet import FLEET, TURN, Enough, Mustered, RoundCounted, Summed, TooFew, next_event, reaches
from grid.store import events, fleets, tasks
from grid.store.fleets import DeviceRow, FleetRow, RoundRow
from grid.store.schema import Snapshot, Transaction
from grid.store.tasks import JobRow, TaskRow
from grid.transport.auth import OWNER, Caller
from grid.wire.problems import GridError, OutOfTurn, RoundClosed, TaskNotFound, UpdateRepeated

log = logging.getLogger(__name__)

TRAIN = "train"
"""The event that calls devices to a round."""
MINUTE = 60.0
DAY = 86_400.0

_DONE = frozenset({assignment.UPLOADED, assignment.ACCEPTED})
_FAILED = frozenset({assignment.FAILED, assignment.REJECTED, assignment.EXPIRED})


class Call(NamedTuple):
    """Devices are asked to train in a round until `ends` (UTC seconds)."""

    row: FleetRow
    round: RoundRow
    devices: list[DeviceRow]
    ends: float

    def told(self) -> dict[str, object]:
        """The call as devices read it, in FLaaS's words."""
        return {
            "type": TRAIN,
            "validDate": int(self.ends * 1000),
            "request": self.round.id,
            "project": self.row.id,
            "round": self.round.turn.number,
            "trainingMode": self.row.terms.training_mode,
        }


class Standing(NamedTuple):
    """Where a project is: its newest round with its task and jobs, and its devices."""

    row: FleetRow
    round: RoundRow
    devices: list[DeviceRow]
    asked: list[str]
    task: TaskRow | None
    jobs: list[JobRow]

    def named(self, *states: assignment.State) -> list[str]:
        """The devices of the project whose job is in one of these states."""
        mine = {each.name for each in self.devices}
        return [job.client for job in self.jobs if job.assignment.state in states and job.client in mine]


class Rounds:
    """Moves the rounds of all projects. `called` is told of each call to train, to wake those who do not listen."""

    def __init__(
        self, of: Fleets, registry: Registry, jobs: Jobs, outcome: Outcome, called: Callable[[Call], None]
    ) -> None:
        self._fleets, self._registry, self._jobs, self._outcome, self._called = of, registry, jobs, outcome, called
        self._db, self._one, self._forgot = of.database, asyncio.Lock(), 0.0
        self._watch = Watch(of)

    # --- for devices ----------------------------------------------------------------------------

    async def round_of(self, caller: Caller, number: int, round_number: int) -> tuple[FleetRow, RoundRow]:
        """A round of a caller's project. Raises ProjectNotFound, RoundNotFound."""

        def work(connection: Snapshot) -> tuple[FleetRow, RoundRow]:
            return visible(connection, number, caller), fleets.round_of(connection, number, round_number)

        return await self._db.read(work)

    async def open_round(self, caller: Caller, number: int, round_number: int) -> tuple[FleetRow, RoundRow]:
        """The same, which takes devices and their models. Raises ProjectNotFound, RoundNotFound, RoundClosed."""
        row, found = await self.round_of(caller, number, round_number)
        if found.turn.state == fleet.WAITING:
            raise RoundClosed(f"round {round_number} has not begun: wait for its call to train")
        if found.turn.state != fleet.COLLECTING:
            said = f": {found.turn.reason}" if found.turn.reason else ""
            raise RoundClosed(f"round {round_number} takes no models any more, it is {found.turn.state}{said}")
        return row, found

    async def join(self, caller: Caller, number: int, round_number: int) -> tuple[FleetRow, RoundRow]:
        """The calling device takes part, from the beginning.

        Raises:
            DeviceNotFound, ProjectNotFound, RoundNotFound, RoundClosed, TaskClosed
            UpdateRepeated: its model is here.
        """
        row, found = await self.open_round(caller, number, round_number)
        await self._fleets.device(caller)
        with suppress(UpdateRepeated):
            await self._jobs.commit(caller, found.task)
        return row, found

    async def finished(self, caller: Caller, found: RoundRow) -> None:
        """Whether the calling device has handed in for a round. Raises OutOfTurn."""

        def work(connection: Snapshot) -> bool:
            mine = tasks.jobs(connection, found.task, caller.name or "") if found.task else []
            return any(job.assignment.state in tasks.HANDED_IN for job in mine)

        if not await self._db.read(work):
            raise OutOfTurn("a device is done with a round when its model is here, not when it says so")

    async def keep_result(self, caller: Caller, number: int, round_number: int, filename: str, data: bytes) -> None:
        """What the calling device measured in a round that it joined. Raises NotInvited and as `round_of`."""

        def work(connection: Transaction) -> None:
            visible(connection, number, caller)
            found = fleets.round_of(connection, number, round_number)
            device = fleets.device(connection, caller.account)
            if not found.task or not tasks.jobs(connection, found.task, device.name):
                raise OutOfTurn(f"join round {round_number} before you say what you measured in it")
            fleets.add_result(connection, found.id, device.account, filename, data)

        await self._db.write(work)

    async def abandon(self, name: str) -> None:
        """Nothing comes of a round's task any more: its project was removed."""
        with suppress(OutOfTurn, TaskNotFound):
            await self._registry.change(OWNER, name, opened=False)
            await self._outcome.archive(OWNER, name)

    # --- the scheduler --------------------------------------------------------------------------

    async def keep(self, rest: float = REST) -> None:
        """Look whenever something may have changed, for as long as this node runs; once a day, forget old reports."""
        await self._watch.keep(self._look, rest)

    async def _look(self) -> None:
        if self._fleets.now() >= self._forgot + DAY:
            await self._fleets.forget_reports()
            self._forgot = self._fleets.now()
        await self.tick()

    async def tick(self) -> list[str]:
        """Move every project that goes on as far as it can go; what was found, line by line."""
        async with self._one:
            rows = await self._db.read(fleets.fleets)
            running = [row for row in rows if row.fleet.state == fleet.RUNNING]
            said = [f"Found {len(running)} available projects."]
            for row in running:
                said.append(f"Project '{row.id}. {row.terms.title}':")
                try:
                    await self._move(row.id, said)
                except GridError as error:
                    log.warning("project %d could not be moved: %s", row.id, error.detail)
                    said.append(error.detail)
            return said

    async def _move(self, number: int, said: list[str]) -> None:
        moved = True
        while moved:
            at = await self._db.read(lambda connection: _standing(connection, number))
            if at.row.fleet.state != fleet.RUNNING:
                return
            match at.round.turn.state:
                case fleet.WAITING:
                    moved = await self._begin(at, said)
                case fleet.COLLECTING:
                    moved = await self._close(at, said)
                case _:
                    moved = await self._end(at, said)

    async def _begin(self, at: Standing, said: list[str]) -> bool:
        """Ask all devices that can train, if they are enough."""
        terms, now = at.row.terms, self._fleets.now()
        ready, of = eligible(at.devices, terms, now), len(at.devices)
        said.append(f"Ratio is {len(ready) / of if of else 0:.2f} ({len(ready)}/{of})")
        if not reaches(len(ready), of, terms.responses_ratio_threshold):
            said.append("Attempted to train but failed to reach the threshold.")
            return False
        name, ends = f"{at.row.model}-{at.round.turn.number}", now + terms.max_training_time * MINUTE
        await self._open(at, name, ends)
        after, _ = TURN.advance(at.round.turn, Mustered())
        call = Call(at.row, replace(at.round, turn=after, task=name, started=now), ready, ends)

        def work(connection: Transaction) -> None:
            fleets.put_round(connection, call.round)
            fleets.put_asked(connection, call.round.id, [each.account for each in ready])
            events.append(connection, topic(at.row.id), TRAIN, now, call.told())

        await self._db.write(work)
        said.append(f"Sending train request: {len(ready)} devices.")
        self._called(call)
        return False

    async def _open(self, at: Standing, name: str, ends: float) -> None:
        """The round's task; if this node was stopped when it had just been opened, that one."""
        terms = at.row.terms
        asked = Asked(
            name=name,
            model=at.row.model,
            variant=VARIANT,
            ends=ends,
            checkpoints=(at.round.checkpoint,),
            strategy=terms.aggregation,
            most_examples=terms.number_of_samples * terms.number_of_apps,
        )
        await self._registry.open_round(asked)

    async def _close(self, at: Standing, said: list[str]) -> bool:
        """Sum, if enough have handed in and nobody is waited for; give up, if it can come to nothing any more."""
        if at.task is None:
            raise TaskNotFound(f"the task of round {at.round.turn.number} is gone")
        terms, now, of = at.row.terms, self._fleets.now(), len(at.devices)
        if at.task.task.state in (task.AGGREGATING, task.AGGREGATED):  # this node was stopped in between
            return await self._put(at, Enough())
        if at.task.task.state == task.ARCHIVED:  # likewise
            return await self._give_up(at, TooFew("too few devices handed in"), said)
        done = at.named(*_DONE)
        event = next_event(
            asked=at.asked,
            joined=[job.client for job in at.jobs],
            done=done,
            failed=at.named(*_FAILED),
            of=of,
            threshold=terms.valid_round_training_threshold,
            over=at.task.task.state != task.OPEN or now >= at.task.task.ends,
        )
        ratio = f"{len(done) / of if of else 0:.2f}"
        if event is None:
            left = int((at.task.task.ends - now) / MINUTE)
            said.append(f"Waiting for {left} more minutes. Current Ratio is {ratio} ({len(done)} out of {of}).")
            return False
        await self._registry.change(OWNER, at.round.task, opened=False)
        if isinstance(event, TooFew):
            await self._outcome.archive(OWNER, at.round.task)
            return await self._give_up(at, event, said)
        said.append(f"Reported models are enough (Ratio is {ratio}). Round '{at.round.turn.number}' is complete.")
        await self._outcome.aggregate(OWNER, at.round.task)
        return await self._put(at, event)

    async def _end(self, at: Standing, said: list[str]) -> bool:
        """The next round begins with the sum; if there is none, or it is of too few, with what this one began with."""
        if at.task is None or at.task.task.state == task.AGGREGATING:
            said.append("The models are being summed.")
            return False
        counted, of = len(at.named(assignment.ACCEPTED)), len(at.devices)
        if at.task.task.state == task.CLOSED:
            return await self._give_up(at, TooFew(at.task.task.reason), said)
        if not reaches(counted, of, at.row.terms.valid_round_training_threshold):
            return await self._give_up(at, TooFew(f"of {of} devices' models {counted} could be summed"), said)
        return await self._put(at, Summed(), follows=at.task.result)

    async def _give_up(self, at: Standing, event: TooFew, said: list[str]) -> bool:
        said.append(f"Round '{at.round.turn.number}' is invalid: {event.reason}.")
        return await self._put(at, event, follows=at.round.checkpoint)

    async def _put(self, at: Standing, event: Enough | TooFew | Summed, follows: str = "") -> bool:
        """The round after an event; if it is over, the next one beside it, which begins with a checkpoint."""
        now = self._fleets.now()

        def work(connection: Transaction) -> None:
            after, _ = TURN.advance(at.round.turn, event)
            stopped = now if follows else None
            fleets.put_round(connection, replace(at.round, turn=after, stopped=stopped))
            if not follows:
                return
            fleets.add_round(connection, after.number + 1, at.row.id, follows, now)
            told = {"round": after.number, "reason": after.reason}
            events.append(connection, topic(at.row.id), after.state, now, told)
            if after.state == fleet.COMPLETE:
                row = fleets.fleet(connection, at.row.id)
                fleets.put_fleet(connection, replace(row, fleet=FLEET.advance(row.fleet, RoundCounted())[0]))

        await self._db.write(work)
        return True


def _standing(connection: Snapshot, number: int) -> Standing:
    row, found = fleets.fleet(connection, number), fleets.round_of(connection, number)
    held = tasks.get_task(connection, found.task) if found.task else None
    jobs = tasks.jobs(connection, found.task) if found.task else []
    return Standing(row, found, fleets.devices(connection, number), fleets.asked(connection, found.id), held, jobs)
