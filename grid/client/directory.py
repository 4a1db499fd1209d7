"""A gateway as a directory."""

from __future__ import annotations

from grid.client.calls import Calls
from grid.wire.directory import (
    DELETE_NODE,
    JOIN,
    MEMBER,
    RENEW,
    SEARCH,
    Found,
    Join,
    Joined,
    Leave,
    Member,
    Renew,
    Renewed,
    Search,
)


class GatewayDirectory:
    """The `Directory` that one gateway keeps. `address` is where it answers; what it is told goes over HTTP."""

    def __init__(self, calls: Calls, address: str) -> None:
        self._calls, self.address = calls, address

    async def join(self, join: Join) -> Joined:
        """Be listed: see `Directory.join`."""
        return await self._calls.call(self.address, JOIN, join)

    async def renew(self, renew: Renew) -> Renewed:
        """Stay listed: see `Directory.renew`."""
        return await self._calls.call(self.address, RENEW, renew)

    async def leave(self, leave: Leave) -> None:
        """No longer be listed: see `Directory.leave`."""
        await self._calls.call(self.address, DELETE_NODE, leave, sign=True)

    async def search(self, search: Search) -> Found:
        """Which nodes have data with these tags."""
        return await self._calls.call(self.address, SEARCH, search)

    async def resolve(self, node_id: str) -> Member:
        """One member, with the record it signed."""
        return await self._calls.call(self.address, MEMBER, node_id=node_id)
