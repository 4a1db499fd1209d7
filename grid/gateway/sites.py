"""The record of sites that say by themselves that they are there: whose they are, and which of them are silent."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable

from msgspec.structs import replace

from grid.store import events, record
from grid.store.database import Database
from grid.store.record import SiteRow
from grid.store.schema import Transaction
from grid.transport.auth import Caller
from grid.wire.problems import NotAllowed, NotFound

log = logging.getLogger(__name__)

SILENCE = 60.0
"""Seconds after which a site that was not heard of is not connected any more. A lease of 90 would be too late."""
TICK = 5.0
"""Seconds between looks for silent sites; who asks in between is told by the rule, too."""


def is_connected(site: SiteRow, now: float) -> bool:
    """Whether a site is there: it said so, and at most `SILENCE` seconds ago, however many days that may be."""
    return site.connected and now - site.heard <= SILENCE


class Sites:
    """The sites of this gateway's accounts. Every change appends an event, in the same transaction."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._db, self._now = database, now

    async def all(self) -> list[SiteRow]:
        """All sites, oldest first; whoever is silent is not connected."""
        now = self._now()
        return [replace(s, connected=is_connected(s, now)) for s in await self._db.read(record.sites)]

    async def get(self, number: int) -> SiteRow:
        """One site. Raises NotFound."""
        return _one([site for site in await self.all() if site.id == number])

    async def of_uid(self, uid: str) -> SiteRow:
        """The site of a uid. Raises NotFound."""
        return _one([site for site in await self.all() if site.uid == uid])

    async def register(self, caller: Caller, uid: str, name: str, description: str) -> SiteRow:
        """A new site of the caller's. Raises ProjectRefused if uid or name is taken."""
        now = self._now()
        site = SiteRow(0, uid or str(uuid.uuid4()), name, description, _account(caller), True, now, now, now)
        return await self.get(await self._put(site, "site-registered"))

    async def change(self, caller: Caller, number: int, name: str | None, description: str | None) -> SiteRow:
        """Another name or description. Raises NotFound, NotAllowed, ProjectRefused."""
        site = await self.own(caller, number)
        words = {"name": name or site.name, "description": site.description if description is None else description}
        await self._put(replace(site, **words, updated=self._now()), "site-changed")
        return await self.get(number)

    async def heartbeat(self, caller: Caller, uid: str, connected: bool) -> SiteRow:
        """A site says that it is there, or that it goes. Raises NotFound, NotAllowed."""
        now, site = self._now(), await self.of_uid(uid)
        site = await self.own(caller, site.id)
        kind = "site-heard" if connected else "site-gone"
        await self._put(replace(site, connected=connected, heard=now, updated=now), kind)
        return await self.get(site.id)

    async def remove(self, caller: Caller, number: int) -> None:
        """Forget a site. Raises NotFound, NotAllowed; ProjectRefused while it is in a project."""
        await self.own(caller, number)
        await self._db.write(lambda connection: record.delete_site(connection, number))

    async def own(self, caller: Caller, number: int) -> SiteRow:
        """A site, if it is the caller's (or the caller owns this gateway). Raises NotFound, NotAllowed."""
        site = await self.get(number)
        if not caller.owner and site.owner != caller.account:
            raise NotAllowed("this site is another account's")
        return site

    async def check(self) -> list[str]:
        """Write down who has fallen silent; their uids."""
        now = self._now()

        def work(connection: Transaction) -> list[str]:
            silent = [site for site in record.sites(connection) if site.connected and not is_connected(site, now)]
            for site in silent:
                record.put_site(connection, replace(site, connected=False, updated=now))
                events.append(connection, "sites", "site-silent", now, {"uid": site.uid})
            return [site.uid for site in silent]

        return await self._db.write(work)

    async def tend(self) -> None:
        """Look for silent sites for as long as the gateway runs."""
        while True:
            await asyncio.sleep(TICK)
            for uid in await self.check():
                log.info("site %s has fallen silent", uid)

    async def _put(self, site: SiteRow, kind: str) -> int:
        at = self._now()

        def work(connection: Transaction) -> int:
            events.append(connection, "sites", kind, at, {"uid": site.uid})
            return record.put_site(connection, site)

        return await self._db.write(work)


def _one(found: list[SiteRow]) -> SiteRow:
    if not found:
        raise NotFound("there is no such site")
    return found[0]


def _account(caller: Caller) -> str:
    if caller.account is None:
        raise NotAllowed("a site belongs to an account: sign in with its name and password")
    return caller.account
