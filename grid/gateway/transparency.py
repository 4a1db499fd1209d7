"""The routes of the transparency log: each handler parses, calls, responds."""

from __future__ import annotations

from aiohttp import web

from grid.gateway.log import Log
from grid.gateway.register import Register
from grid.transport import body
from grid.transport.app import Routes
from grid.wire import log as wire


def log_routes(log: Log, register: Register) -> Routes:
    """Every endpoint of the log with its handler."""

    async def head(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.LOG_HEAD, log.head(), request=request)

    async def entries(request: web.Request) -> web.StreamResponse:
        found = await log.entries(body.query(request, wire.LOG_ENTRIES))
        return body.reply(wire.LOG_ENTRIES, found, request=request)

    async def consistency(request: web.Request) -> web.StreamResponse:
        proof = log.consistency(body.query(request, wire.LOG_CONSISTENCY))
        return body.reply(wire.LOG_CONSISTENCY, proof, request=request)

    async def revoke(request: web.Request) -> web.StreamResponse:
        message = await body.read(request, wire.REVOKE_KEY)
        logged = await log.revoke(message.revocation)
        await register.expel(message.revocation.signer)
        return body.reply(wire.REVOKE_KEY, logged, request=request)

    async def rotate(request: web.Request) -> web.StreamResponse:
        message = await body.read(request, wire.ROTATE_KEY)
        logged = await log.rotate(message)
        await register.expel(message.by_old.signer)
        return body.reply(wire.ROTATE_KEY, logged, request=request)

    return {
        wire.ROTATE_KEY: rotate,
        wire.LOG_HEAD: head,
        wire.LOG_ENTRIES: entries,
        wire.LOG_CONSISTENCY: consistency,
        wire.REVOKE_KEY: revoke,
    }
