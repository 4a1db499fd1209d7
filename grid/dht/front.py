"""Every peer is a gateway, too: what the grid RFC's programs ask of one is answered from the network."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from grid.dht.directory import DhtDirectory
from grid.dht.peer import Peer
from grid.transport.app import Routes
from grid.transport.body import read, reply
from grid.wire.dht import SEARCH_HERE, FoundHere
from grid.wire.directory import CONNECTED_NODES, JOIN, Connected, Found, Join, Joined, Search
from grid.wire.problems import BadRequest, Unreachable, UnsignedJoinRefused

KEEP = 2.0
"""Seconds for which what was found is said again: a gateway that asks all its nodes need not start as many lookups."""
REMEMBERED = 256


class Front:
    """Answers joins and searches at one peer. `has`: whether this node has data with all of some tags."""

    def __init__(
        self,
        peer: Peer,
        directory: DhtDirectory,
        now: Callable[[], float],
        has: Callable[[tuple[str, ...]], bool],
    ) -> None:
        self._peer, self._directory, self._now, self._has = peer, directory, now, has
        self._found: dict[Search, tuple[float, Found]] = {}

    async def join(self, join: Join) -> Joined:
        """Publish somebody else's record. It must be one of this network, signed, for nobody here can vouch for it.

        Raises:
            UnsignedJoinRefused, BadRequest, Unreachable; and what `Network.read` does.
        """
        if join.record is None:
            raise UnsignedJoinRefused("a network without a centre lists nobody who signs nothing")
        network, now = self._peer.network, self._now()
        held = network.read(join.record, now)
        if (held.said.node_id, held.said.node_address) != (join.node_id, join.node_address):
            raise BadRequest("the signed record speaks of another node id or address than the join")
        holders = await self._peer.announce(join.record, network.keys(held.said, join.record.signer))
        if not holders:
            raise Unreachable("no peer of the network keeps this record")
        return Joined(f"kept by {holders} peers", "online", max(held.said.expires - now, 0.0), verified=True)

    async def search(self, search: Search) -> FoundHere:
        """Which nodes have data with these tags, and whether this one does."""
        until, found = self._found.get(search, (0.0, Found(())))
        if until <= self._now():
            found = await self._directory.search(search)
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[search] = self._now() + KEEP, found
        tags = search.query
        has = any(self._has((tag,)) for tag in tags) if search.match == "any" else self._has(tags)
        return FoundHere(found.node_addresses, found.unverified, found.silent, content=has)


def front_routes(front: Front, peer: Peer) -> Routes:
    """The endpoints of a gateway that a peer answers. `/search` takes the place of the node's own."""

    async def join(request: web.Request) -> web.StreamResponse:
        return reply(JOIN, await front.join(await read(request, JOIN)), request=request)

    async def search(request: web.Request) -> web.StreamResponse:
        return reply(SEARCH_HERE, await front.search(await read(request, SEARCH_HERE)), request=request)

    async def connected(request: web.Request) -> web.StreamResponse:
        return reply(CONNECTED_NODES, Connected(tuple(sorted(peer.names()))), request=request)

    return {JOIN: join, SEARCH_HERE: search, CONNECTED_NODES: connected}
