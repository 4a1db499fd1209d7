"""Flea over this node's models and tasks: a translation, which owns no rule, no table and no sum."""

from __future__ import annotations

from aiohttp import web

from grid.node.dialects.flea_clients import client_routes
from grid.node.dialects.flea_repository import repository_routes
from grid.node.dialects.flea_rows import FleaParts
from grid.node.dialects.flea_tasks import generator_routes, owner_routes
from grid.transport import body
from grid.transport.app import Routes
from grid.wire import flea as wire
from grid.wire.problems import BadRequest

RELOAD = "RELOAD_TOKENS"


def flea_routes(parts: FleaParts) -> Routes:
    """Every route of `/v1/flea/` with its handler, and those of the repository that its clients read."""
    return {
        **_maintainer_routes(parts),
        **generator_routes(parts),
        **client_routes(parts),
        **owner_routes(parts),
        **repository_routes(parts),
    }


def _maintainer_routes(parts: FleaParts) -> Routes:
    async def healthz(_: web.Request) -> web.StreamResponse:
        return body.reply(wire.HEALTHZ, wire.Health())

    async def config(_: web.Request) -> web.StreamResponse:
        return body.reply(wire.CONFIG, wire.Config())

    async def metrics(request: web.Request) -> web.StreamResponse:
        page = request.app[body.METRICS].render()
        return web.Response(body=page, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    async def admin(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.ADMIN)
        if asked.type != RELOAD:
            raise BadRequest(f"there is nothing to do by the name of {asked.type[:40]!r}; there is {RELOAD}")
        await parts.tokens.reload()
        return body.reply(wire.ADMIN, wire.Told("Updated Authentication Tokens"))

    return {wire.HEALTHZ: healthz, wire.CONFIG: config, wire.METRICS: metrics, wire.ADMIN: admin}
