"""The network's calls over HTTP: what a peer answers, and how it calls others."""

from __future__ import annotations

from aiohttp import web

from grid.client.calls import Calls
from grid.dht.peer import Peer
from grid.transport.app import Routes
from grid.transport.body import read, reply
from grid.wire import dht as wire

MOST = 1024 * 1024
"""Bytes of an answer."""
PONG = 8 * 1024
"""Bytes of the answer to a ping, which may go to an address that a stranger named."""


def dht_routes(peer: Peer) -> Routes:
    """The endpoints of a peer: each handler parses, calls, responds."""

    async def find(request: web.Request) -> web.StreamResponse:
        return reply(wire.FIND, peer.answers.find(await read(request, wire.FIND)), request=request)

    async def store(request: web.Request) -> web.StreamResponse:
        return reply(wire.STORE, peer.answers.store(await read(request, wire.STORE)), request=request)

    async def ping(request: web.Request) -> web.StreamResponse:
        return reply(wire.PING, peer.answers.ping(await read(request, wire.PING)), request=request)

    async def known(request: web.Request) -> web.StreamResponse:
        return reply(wire.KNOWN, peer.known(), request=request)

    return {wire.FIND: find, wire.STORE: store, wire.PING: ping, wire.KNOWN: known}


class HttpTransport:
    """Calls peers through a pool of connections that goes only where its policy allows (see `grid.client.egress`)."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def find(self, address: str, find: wire.Find) -> wire.Near:
        """`FIND`."""
        return await self._calls.call(address, wire.FIND, find, limit=MOST)

    async def store(self, address: str, store: wire.Store) -> wire.Kept:
        """`STORE`."""
        return await self._calls.call(address, wire.STORE, store, limit=PONG)

    async def ping(self, address: str, ping: wire.Ping) -> wire.Pong:
        """`PING`."""
        return await self._calls.call(address, wire.PING, ping, limit=PONG)
