"""Guests of a node: programs of the grid RFC that join there unsigned, listed by what lists them at a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from grid.client.egress import Egress
from grid.gateway.ask import HttpAsk
from grid.gateway.checks import Checks
from grid.gateway.claim import Claim
from grid.gateway.register import Register
from grid.gateway.search import Searches
from grid.protocol.membership import Member
from grid.store.members import Reserved
from grid.wire.directory import Done, Found, Join, Joined, Leave, Search

MOST = 1000
"""Guests of a node at most."""


class Nowhere:
    """Keeps no guest over a restart: those who are still there join again, as the RFC's programs do."""

    async def load(self) -> tuple[list[tuple[Member, Claim]], list[Reserved]]:
        """Nobody."""
        return [], []

    async def put(self, member: Member, claim: Claim) -> None:
        """Nothing is kept."""

    async def save(self, members: list[Member], reserved: list[Reserved], gone: list[str]) -> None:
        """Nothing is kept."""


class RegisteredGuests:
    """Guests on a register, asked by its searches."""

    def __init__(self, register: Register, searches: Searches) -> None:
        self._register, self._searches = register, searches

    async def join(self, join: Join) -> Joined:
        """Take one in: see `Register.join`."""
        return await self._register.join(join)

    async def leave(self, leave: Leave) -> Done:
        """It is no guest any more: see `Register.leave`."""
        return await self._register.leave(leave, None, owner=False)

    async def search(self, search: Search) -> Found:
        """Those who say that they have data with these tags."""
        return await self._searches.search(search)

    def names(self) -> set[str]:
        """Those that a search may name."""
        return {listed.claim.node_id for listed in self._register.roll if listed.found}


@asynccontextmanager
async def open_guests(egress: Egress, now: Callable[[], float]) -> AsyncIterator[RegisteredGuests]:
    """Guests, listed for as long as they answer checks, while the block lasts."""
    register = Register(Nowhere(), egress.check, now, allow_unsigned=True, capacity=MOST)
    async with HttpAsk(egress.connector(limit=64, force_close=True)) as ask:
        checks = Checks(register, ask, now)
        async with asyncio.TaskGroup() as loops:
            running = [loops.create_task(register.tend()), loops.create_task(checks.run())]
            try:
                yield RegisteredGuests(register, Searches(register.roll, ask, now))
            finally:
                for loop in running:
                    loop.cancel()
