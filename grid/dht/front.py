"""Every peer is a gateway, too: what the grid RFC's programs ask of one is answered from the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from grid.dht.directory import DhtDirectory
from grid.dht.peer import Peer
from grid.transport.app import Routes
from grid.transport.body import read, reply
from grid.wire.dht import SEARCH_HERE, FoundHere
from grid.wire.directory import (
    AVAILABLE_MODELS,
    AVAILABLE_TAGS,
    CONNECTED_NODES,
    DELETE_NODE,
    JOIN,
    Connected,
    Done,
    Found,
    Join,
    Joined,
    Leave,
    Search,
)
from grid.wire.problems import BadRequest, NodeIdTaken, NotAMember, Unreachable, UnsignedJoinRefused

KEEP = 2.0
"""Seconds for which what was found is said again: a gateway that asks all its nodes need not start as many lookups."""
REMEMBERED = 256


class Guests(Protocol):
    """Nodes that joined at this peer without proving anything, as programs of the grid RFC do: it alone knows them."""

    async def join(self, join: Join) -> Joined:
        """Take one in. Raises NodeIdTaken, AddressRefused, Full."""

    async def leave(self, leave: Leave) -> Done:
        """It is no guest any more. Raises NotAMember."""

    async def search(self, search: Search) -> Found:
        """Those who say that they have data with these tags."""

    def names(self) -> set[str]:
        """All of them."""


class Front:
    """Answers joins and searches at one peer. `has`: whether this node has data with all of some tags.

    Without `guests` nobody joins who proves nothing.
    """

    def __init__(
        self,
        peer: Peer,
        directory: DhtDirectory,
        now: Callable[[], float],
        has: Callable[[tuple[str, ...]], bool],
        guests: Guests | None = None,
    ) -> None:
        self._guests = guests
        self._peer, self._directory, self._now, self._has = peer, directory, now, has
        self._found: dict[Search, tuple[float, Found]] = {}

    async def join(self, join: Join) -> Joined:
        """Publish somebody else's record, one of this network; or take in a guest, who has none.

        Raises:
            UnsignedJoinRefused, BadRequest, Unreachable, NodeIdTaken; and what `Network.read` and `Guests.join` do.
        """
        if join.record is None:
            return await self._take_in(join)
        network, now = self._peer.network, self._now()
        held = network.read(join.record, now)
        if (held.said.node_id, held.said.node_address) != (join.node_id, join.node_address):
            raise BadRequest("the signed record speaks of another node id or address than the join")
        holders = await self._peer.announce(join.record, network.keys(held.said, join.record.signer))
        if not holders:
            raise Unreachable("no peer of the network keeps this record")
        return Joined(f"kept by {holders} peers", "online", max(held.said.expires - now, 0.0), verified=True)

    async def leave(self, leave: Leave) -> Done:
        """Take a guest off the list. Whoever signed a record says good-bye by another. Raises NotAMember."""
        if self._guests is None:
            raise NotAMember(f"{leave.node_id} is no guest of this node")
        return await self._guests.leave(leave)

    async def search(self, search: Search) -> FoundHere:
        """Which nodes have data with these tags, and whether this one does."""
        found, guests = await asyncio.gather(self._in_network(search), self._among_guests(search))
        signed = {name for name, _ in found.node_addresses}
        more = [each for each in guests.node_addresses if each[0] not in signed]  # a guest gives way to who signed
        tags = search.query
        has = any(self._has((tag,)) for tag in tags) if search.match == "any" else self._has(tags)
        return FoundHere(
            tuple(sorted([*found.node_addresses, *more])),
            tuple(sorted({*found.unverified, *(name for name, _ in more)})),
            tuple(sorted({*found.silent, *guests.silent})),
            content=has,
        )

    def connected(self) -> Connected:
        """The nodes that this peer knows of, but for itself, and its guests."""
        guests = set[str]() if self._guests is None else self._guests.names()
        known = {said.node_id for said in self._peer.others()}
        return Connected(tuple(sorted(known | guests)), tuple(sorted(guests - known)))

    def words(self, field: str) -> tuple[str, ...]:
        """All `tags`, or `models`, of nodes that this peer knows of; none where a secret hides which there are."""
        if self._peer.network.secret:
            return ()
        own = self._peer.answers.said
        known = [*self._peer.others(), *([] if own is None else [own])]
        return tuple(sorted({word for said in known for word in getattr(said, field)}))

    async def _take_in(self, join: Join) -> Joined:
        if self._guests is None:
            raise UnsignedJoinRefused("this network lists nobody who signs nothing")
        if await self._directory.knows(join.node_id):
            raise NodeIdTaken("This ID has already been registered.")
        return await self._guests.join(join)

    async def _among_guests(self, search: Search) -> Found:
        return Found(()) if self._guests is None else await self._guests.search(search)

    async def _in_network(self, search: Search) -> Found:
        until, found = self._found.get(search, (0.0, Found(())))
        if until <= self._now():
            found = await self._directory.search(search)
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[search] = self._now() + KEEP, found
        return found


def front_routes(front: Front) -> Routes:
    """The endpoints of a gateway that a peer answers. `/search` takes the place of the node's own."""

    async def join(request: web.Request) -> web.StreamResponse:
        return reply(JOIN, await front.join(await read(request, JOIN)), request=request)

    async def search(request: web.Request) -> web.StreamResponse:
        return reply(SEARCH_HERE, await front.search(await read(request, SEARCH_HERE)), request=request)

    async def connected(request: web.Request) -> web.StreamResponse:
        return reply(CONNECTED_NODES, front.connected(), request=request)

    async def leave(request: web.Request) -> web.StreamResponse:
        return reply(DELETE_NODE, await front.leave(await read(request, DELETE_NODE)), request=request)

    async def tags(request: web.Request) -> web.StreamResponse:
        return reply(AVAILABLE_TAGS, front.words("tags"), request=request)

    async def models(request: web.Request) -> web.StreamResponse:
        return reply(AVAILABLE_MODELS, front.words("models"), request=request)

    return {
        JOIN: join,
        SEARCH_HERE: search,
        CONNECTED_NODES: connected,
        DELETE_NODE: leave,
        AVAILABLE_TAGS: tags,
        AVAILABLE_MODELS: models,
    }
