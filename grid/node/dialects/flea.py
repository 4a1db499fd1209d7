"""Flea over this node's models and tasks: a translation, which owns no rule, no table and no sum."""

from __future__ import annotations

from aiohttp import web

from grid.node.dialects.flea_clients import client_routes
from grid.node.dialects.flea_rows import FleaParts
from grid.node.dialects.flea_tasks import generator_routes, owner_routes
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.wire import flea as wire
from grid.wire.models import CHECKPOINT_FILE
from grid.wire.names import Name
from grid.wire.problems import BadRequest

RELOAD = "RELOAD_TOKENS"


def flea_routes(parts: FleaParts) -> Routes:
    """Every route of `/v1/flea/` with its handler, and those of the repository that its clients read."""
    return {
        **_maintainer_routes(parts),
        **generator_routes(parts),
        **client_routes(parts),
        **owner_routes(parts),
        **_repository_routes(parts),
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


def _repository_routes(parts: FleaParts) -> Routes:
    async def model(request: web.Request) -> web.StreamResponse:
        found = await parts.models.model(request[CALLER], body.part(request, "model", Name))
        told = wire.RepositoryModel(found.model, found.details, found.canonical)
        return body.reply(wire.REPOSITORY_MODEL, told)

    async def variant(request: web.Request) -> web.StreamResponse:
        names = [body.part(request, each, Name) for each in ("model", "variant")]
        found = await parts.models.variant(request[CALLER], *names)
        told = wire.RepositoryVariant(
            found.model, found.variant, found.upgrade_to, found.canonical, found.hyperparameters
        )
        return body.reply(wire.REPOSITORY_VARIANT, told)

    async def checkpoint(request: web.Request) -> web.StreamResponse:
        names = {each: body.part(request, each, Name) for each in ("model", "variant", "checkpoint")}
        found = await parts.models.checkpoint(request[CALLER], *names.values())
        link = found.link or parts.url(request) + CHECKPOINT_FILE.target(**names)
        path = request.path.removeprefix(wire.REPOSITORY)
        told = wire.RepositoryCheckpoint(path, link, wire.told_time(found.created), found.info)
        return body.reply(wire.REPOSITORY_CHECKPOINT, told)

    return {
        wire.REPOSITORY_MODEL: model,
        wire.REPOSITORY_VARIANT: variant,
        wire.REPOSITORY_CHECKPOINT: checkpoint,
    }
