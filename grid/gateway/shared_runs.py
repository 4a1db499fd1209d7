"""The record of runs that sites share: one run for a batch, and each site's part in its present round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from grid.gateway.consortia import Consortia, Consortium, rounds_of
from grid.protocol import run as running
from grid.protocol.assignment import Assignment
from grid.protocol.run import RUN, Run
from grid.store import events, record
from grid.store.database import Database
from grid.store.record import PartRow, PartyRow, SharedRow, SiteRow
from grid.store.schema import Transaction
from grid.transport.auth import Caller
from grid.wire.problems import NoParticipants, NotAllowed, NotFound, OutOfTurn, ProjectRefused

Step = Callable[[Run, Sequence[Assignment], int | None], tuple[Run, list[Assignment]]]
"""A move by our machines: a run, its parts, which of them moves (None: all); what they are after it."""


@dataclass(frozen=True)
class SharedPart:
    """A part in a run with all that is known of where it stands."""

    consortium: Consortium
    party: PartyRow
    site: SiteRow
    shared: SharedRow
    row: PartRow


class SharedRuns:
    """Runs of the projects in `consortia`. Who has a site in a batch moves its own part, its coordinator all."""

    def __init__(self, database: Database, consortia: Consortia, now: Callable[[], float]) -> None:
        self._db, self._consortia, self._now = database, consortia, now

    async def of(self, caller: Caller) -> list[SharedPart]:
        """The parts that a caller may see, oldest first: of its sites, and all of the projects that it coordinates."""
        found = []
        for consortium in await self._consortia.of(caller):
            found += await self._of(consortium, caller)
        return sorted(found, key=lambda part: part.row.id)

    async def get(self, caller: Caller, number: int) -> SharedPart:
        """One part. Raises NotFound."""
        row = await self._db.read(lambda connection: record.get_part(connection, number))
        consortium = await self._consortia.get(caller, row.project)
        found = [part for part in await self._of(consortium, caller, row.batch) if part.row.id == number]
        if not found:
            raise NotFound("there is no such run for this account")
        return found[0]

    async def open_batch(self, caller: Caller, project: int) -> list[SharedPart]:
        """Begin a new batch: a part for each site.

        Raises:
            NotFound, NotAllowed: no such project, or another coordinator's.
            OutOfTurn: the batch before is not over.
            NoParticipants: a site is not connected.
            ProjectRefused: there are no tasks.
        """
        consortium = await self._consortia.led(caller, project)
        tasks, now = msgspec.json.decode(consortium.project.tasks), self._now()
        if not tasks:
            raise ProjectRefused("this project has no tasks")
        if away := [site.name for _, site in consortium.parties if not site.connected]:
            raise NoParticipants(f"not connected: {', '.join(away)}")
        rounds = sum(rounds_of(tasks))

        def work(connection: Transaction) -> int:
            before = record.shared(connection, project)
            if before and not RUN.final(before[-1].run.state):
                raise OutOfTurn(f"batch {before[-1].batch} is {before[-1].run.state}")
            batch = before[-1].batch + 1 if before else 1
            record.put_shared(connection, SharedRow(project, batch, Run("", rounds), consortium.project.tasks))
            for party, _ in consortium.parties:
                record.put_part(connection, PartRow(0, project, batch, party.id, Assignment("", 0, ""), now, now))
            events.append(connection, f"record/{project}", "batch-opened", now, {"batch": batch})
            return batch

        batch = await self._db.write(work)
        return await self._of(consortium, caller, batch)

    async def move(self, caller: Caller, number: int, step: Step, *, everybody: bool) -> SharedPart:
        """Move one part, or with it all of its batch; judged and written in one transaction.

        Raises:
            NotFound: no such part for this caller.
            NotAllowed: another site's part, or all of them by somebody who does not coordinate them.
            OutOfTurn: the machines have no such move.
        """
        part, now = await self.get(caller, number), self._now()
        if everybody and not part.consortium.led_by(caller):
            raise NotAllowed("only the coordinator moves all sites at once")
        if not everybody and part.site.owner != caller.account:
            raise NotAllowed("this run is another site's")
        project, batch = part.shared.project, part.shared.batch

        def work(connection: Transaction) -> None:
            shared = next(each for each in record.shared(connection, project) if each.batch == batch)
            rows = record.parts(connection, project, batch)
            mine = None if everybody else next(at for at, row in enumerate(rows) if row.id == number)
            after, moved = step(shared.run, [row.assignment for row in rows], mine)
            record.put_shared(connection, replace(shared, run=after))
            for row, own in zip(rows, moved, strict=True):
                if own != row.assignment:
                    record.put_part(connection, replace(row, assignment=own, updated=now))
            told = {"batch": batch, "state": after.state, "round": after.current}
            events.append(connection, f"record/{project}", "run-moved", now, told)

        await self._db.write(work)
        return await self.get(caller, number)

    async def restart(self, caller: Caller, project: int, batch: int) -> None:
        """Begin the run of a batch anew, whatever became of it. Raises NotFound, NotAllowed."""
        await self._consortia.led(caller, project)

        def work(connection: Transaction) -> None:
            found = [each for each in record.shared(connection, project) if each.batch == batch]
            if not found:
                raise NotFound("there is no such batch")
            record.put_shared(connection, replace(found[0], run=Run("", found[0].run.rounds)))
            for row in record.parts(connection, project, batch):
                record.put_part(connection, replace(row, assignment=Assignment("", 0, ""), updated=self._now()))
            events.append(connection, f"record/{project}", "batch-restarted", self._now(), {"batch": batch})

        await self._db.write(work)

    async def _of(self, consortium: Consortium, caller: Caller, batch: int | None = None) -> list[SharedPart]:
        """The parts that the caller may see of a project, or of one batch of it."""
        project = consortium.project.id
        shared, rows = await self._db.read(lambda c: (record.shared(c, project), record.parts(c, project, batch)))
        batches, seen = {each.batch: each for each in shared}, dict(_by_id(consortium.own(caller)))
        return [SharedPart(consortium, *seen[row.party], batches[row.batch], row) for row in rows if row.party in seen]


def at_task(shared: SharedRow) -> tuple[int, list[dict[str, Any]]]:
    """Which task a run is at (from 1), and its tasks, each with the round in it that is the present one."""
    tasks: list[dict[str, Any]] = msgspec.json.decode(shared.tasks)
    left, seq, told = max(1, shared.run.current), 0, []
    for number, (task, rounds) in enumerate(zip(tasks, rounds_of(tasks), strict=True), 1):
        if left > 0:
            seq = number
        present = min(max(left, 1), rounds)
        told.append({**task, "config": {**task.get("config", {}), "total_round": rounds, "current_round": present}})
        left -= rounds
    return seq, told


def _by_id(parties: Sequence[tuple[PartyRow, SiteRow]]) -> list[tuple[int, tuple[PartyRow, SiteRow]]]:
    return [(party.id, (party, site)) for party, site in parties]


def over(shared: SharedRow) -> bool:
    """Whether nothing of a run goes on."""
    return shared.run.state in {running.SUCCESS, running.FAILED, running.STOPPED}
