"""The record of projects among the sites of this gateway's accounts: who is in which, and who coordinates it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import msgspec
from msgspec.structs import replace

from grid.gateway.sites import Sites, is_connected
from grid.store import record
from grid.store.database import Database
from grid.store.record import PartyRow, ProjectRow, SiteRow
from grid.store.schema import Snapshot, Transaction
from grid.transport.auth import Caller
from grid.wire.problems import NotAllowed, NotFound, ProjectRefused


@dataclass(frozen=True)
class Consortium:
    """A project with those who are in it, each with its site."""

    project: ProjectRow
    parties: tuple[tuple[PartyRow, SiteRow], ...]

    def led_by(self, caller: Caller) -> bool:
        """Whether the caller is who coordinates it, or owns this gateway."""
        return caller.owner or any(p.coordinates and site.owner == caller.account for p, site in self.parties)

    def has(self, caller: Caller) -> bool:
        """Whether the caller may know of it: one of its sites is the caller's."""
        return caller.owner or any(site.owner == caller.account for _, site in self.parties)

    def own(self, caller: Caller) -> tuple[tuple[PartyRow, SiteRow], ...]:
        """Those who the caller may see: all for its coordinator, else the caller's own."""
        if self.led_by(caller):
            return self.parties
        return tuple(each for each in self.parties if each[1].owner == caller.account)


class Consortia:
    """Projects of accounts: a name is given once, who made it coordinates, others join, and none of them leads it."""

    def __init__(self, database: Database, sites: Sites, now: Callable[[], float]) -> None:
        self._db, self._sites, self._now = database, sites, now

    async def of(self, caller: Caller) -> list[Consortium]:
        """The projects that a caller has a site in, oldest first."""
        if caller.owner:
            return await self._read(record.projects)
        account = caller.account
        return [] if account is None else await self._read(lambda connection: record.projects_of(connection, account))

    async def get(self, caller: Caller, number: int) -> Consortium:
        """One project. Raises NotFound for who has no site in it, too."""
        found = await self._read(lambda connection: record.project(connection, number))
        if not found or not found[0].has(caller):
            raise NotFound("there is no such project for this account")
        return found[0]

    async def named(self, name: str) -> Consortium | None:
        """The project of a name."""
        found = await self._read(lambda connection: record.project_named(connection, name))
        return found[0] if found else None

    async def led(self, caller: Caller, number: int) -> Consortium:
        """A project that the caller coordinates. Raises NotFound, NotAllowed."""
        found = await self.get(caller, number)
        if not found.led_by(caller):
            raise NotAllowed("only the coordinator of a project may do that")
        return found

    async def create_or_join(
        self, caller: Caller, site: int, name: str, description: str, tasks: list[object]
    ) -> Consortium:
        """Make a project that the caller's site coordinates; if there is one of that name, join it instead.

        Raises:
            NotFound, NotAllowed: no such site, or another account's.
            ProjectRefused: the site is in it already, or the tasks have no order.
        """
        await self._sites.own(caller, site)
        check_tasks(tasks)
        now, there = self._now(), await self.named(name)

        def work(connection: Transaction) -> int:
            if there is not None:
                record.put_party(connection, PartyRow(0, there.project.id, site, False, "", now, now))
                return there.project.id
            made = ProjectRow(0, name, description, msgspec.json.encode(tasks), now, now)
            project = record.put_project(connection, made)
            record.put_party(connection, PartyRow(0, project, site, True, "", now, now))
            return project

        return await self.get(caller, await self._db.write(work))

    async def join(self, caller: Caller, site: int, project: int, coordinates: bool, notes: str) -> PartyRow:
        """Have the caller's site join. Raises NotFound, NotAllowed (as coordinator, too), ProjectRefused."""
        await self._sites.own(caller, site)
        if coordinates:
            raise NotAllowed("a project's coordinator is who made it")
        if not await self._read(lambda connection: record.project(connection, project)):
            raise NotFound("there is no such project")
        now = self._now()
        row = PartyRow(0, project, site, False, notes, now, now)
        number = await self._db.write(lambda connection: record.put_party(connection, row))
        return replace(row, id=number)

    async def note(self, caller: Caller, party: int, notes: str) -> PartyRow:
        """Other notes on a party of the caller's. Raises NotFound, NotAllowed."""
        _, row, site = await self.party(caller, party)
        await self._sites.own(caller, site.id)
        changed = replace(row, notes=notes, updated=self._now())
        await self._db.write(lambda connection: record.put_party(connection, changed))
        return changed

    async def leave(self, caller: Caller, party: int) -> None:
        """A site is in a project no longer; its coordinator may say so, too. Raises NotFound, NotAllowed."""
        consortium, row, site = await self.party(caller, party)
        if not consortium.led_by(caller):
            await self._sites.own(caller, site.id)
        if row.coordinates:
            raise ProjectRefused("a project does not outlive its coordinator: delete the project")
        await self._db.write(lambda connection: record.delete_party(connection, party))

    async def party(self, caller: Caller, number: int) -> tuple[Consortium, PartyRow, SiteRow]:
        """A place in a project that the caller may see. Raises NotFound."""
        for consortium in await self.of(caller):
            for row, site in consortium.own(caller):
                if row.id == number:
                    return consortium, row, site
        raise NotFound("there is no such participant for this account")

    async def change(
        self, caller: Caller, number: int, name: str | None, description: str | None, tasks: list[object] | None
    ) -> Consortium:
        """Another name, description or list of tasks, for runs to come. Raises NotFound, NotAllowed, ProjectRefused."""
        project = (await self.led(caller, number)).project
        if tasks is not None:
            check_tasks(tasks)
        changed = replace(
            project,
            name=name or project.name,
            description=project.description if description is None else description,
            tasks=project.tasks if tasks is None else msgspec.json.encode(tasks),
            updated=self._now(),
        )
        await self._db.write(lambda connection: record.put_project(connection, changed))
        return await self.get(caller, number)

    async def delete(self, caller: Caller, number: int) -> None:
        """Forget a project with its runs. Raises NotFound, NotAllowed."""
        await self.led(caller, number)
        await self._db.write(lambda connection: record.delete_project(connection, number))

    async def _read(self, which: Callable[[Snapshot], list[ProjectRow]]) -> list[Consortium]:
        """The projects of the rows that `which` reads; of their sites, whoever is silent is not connected."""
        found = await self._db.read(lambda c: [(row, record.parties(c, row.id)) for row in which(c)])
        return [Consortium(row, tuple(self._place(*place) for place in places)) for row, places in found]

    def _place(self, party: PartyRow, site: SiteRow) -> tuple[PartyRow, SiteRow]:
        return party, replace(site, connected=is_connected(site, self._now()))


def check_tasks(tasks: list[object]) -> None:
    """Raises ProjectRefused unless each task has a `seq`, 1 to n in order, and a `model`."""
    for seq, task in enumerate(tasks, 1):
        if not isinstance(task, dict) or task.get("seq") != seq or not isinstance(task.get("model"), str):
            raise ProjectRefused(f"task {seq} has no seq {seq}, or no model")
        if not isinstance(task.get("config", {}), dict):
            raise ProjectRefused(f"the config of task {seq} is no table")


def rounds_of(tasks: list[dict[str, dict[str, object]]]) -> list[int]:
    """How many rounds each task has: its config's `total_round`, at least one."""
    wanted = [task.get("config", {}).get("total_round", 1) for task in tasks]
    return [each if isinstance(each, int) and 1 <= each <= 100_000 else 1 for each in wanted]
