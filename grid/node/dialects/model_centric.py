"""PyGrid's model-centric protocol over this node's series: a translation, which owns no rule, no table and no sum."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web

from grid.node.dialects.model_centric_rows import (
    PyGridParts,
    cycle_told,
    hosting,
    plan_file,
    protocol_file,
    taken,
)
from grid.node.dialects.model_centric_socket import socket_handler
from grid.node.tasks.jobs import DifferenceIn
from grid.protocol.series import Speeds
from grid.store.series import SeriesRow
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.parts import Parts, send_parts
from grid.wire import model_centric as wire
from grid.wire.long_text import LongText
from grid.wire.problems import BadRequest, ModelNotFound, TooManyRequests

TESTS = 8
"""Speed tests at a time: more of them would measure each other."""
NOISE = bytes(range(256)) * 1024


class PyGrid:
    """What the protocol's four messages come to, by HTTP and by websocket alike."""

    def __init__(self, parts: PyGridParts) -> None:
        self.parts = parts

    async def authenticate(self, asked: wire.AuthenticateAsked) -> wire.Told:
        """A device introduces itself. Raises NotAuthenticated, ProjectNotFound."""
        row, secret = await self.parts.series.introduce(asked.model_name, asked.model_version, asked.auth_token or "")
        return {"status": "success", "worker_id": secret, "requires_speed_test": row.terms.measured}

    async def cycle_request(self, asked: wire.CycleAsked) -> wire.Told:
        """A device asks to take part. Raises DeviceNotFound, BadRequest: it introduced itself for another process."""
        row, device = await self.parts.series.known(asked.worker_id)
        if asked.model not in ("", row.name) or (asked.version or row.version) != row.version:
            raise BadRequest(f"this worker_id is for {row.name} {row.version}: authenticate for the other one")
        speeds = Speeds(asked.upload, asked.download, asked.ping)
        return cycle_told(row, await self.parts.rounds.check_in(row, device, asked.worker_id, speeds))

    async def report(self, blocks: AsyncIterator[bytes]) -> wire.Told:
        """A device hands in: who it is stands before its difference, which goes to the disk as it comes.

        Raises:
            DeviceNotFound, TicketRefused, TaskClosed, UpdateRefused, UpdateRepeated, BadRequest, TooLarge, Full
        """
        text, first = LongText("diff"), b""
        async for block in blocks:
            first = text.feed(block)
            if text.begun:
                break
        said = taken(text.before(), wire.ReportHead)
        row, _ = await self.parts.series.known(said.worker_id)
        async with self.parts.rounds.handing_in(said.worker_id, row.id, said.request_key) as handing:
            draft = handing.draft()
            try:
                difference = DifferenceIn(draft, handing.layout)
                difference.feed(first)
                async for block in blocks:
                    difference.feed(text.feed(block))
                    del block  # see `transport.body.blocks`
                text.end()
                await asyncio.to_thread(difference.settle)
                await handing.register(draft, 1)
            finally:
                draft.abort()
        return {"status": "success"}


def pygrid_routes(parts: PyGridParts) -> Routes:
    """Every route of `/model-centric/` with its handler, and the websocket."""
    pygrid = PyGrid(parts)

    async def host(request: web.Request) -> web.StreamResponse:
        row = await parts.series.host(request[CALLER], hosting(await body.read(request, wire.HOST)))
        return body.reply(wire.HOST, {"status": "success", "model_id": row.id})

    async def authenticate(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.AUTHENTICATE)
        return body.reply(wire.AUTHENTICATE, await pygrid.authenticate(asked))

    async def cycle_request(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.CYCLE_REQUEST)
        return body.reply(wire.CYCLE_REQUEST, await pygrid.cycle_request(asked))

    async def report(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.REPORT, await pygrid.report(body.blocks(request, wire.REPORT)))

    return {
        wire.HOST: host,
        wire.AUTHENTICATE: authenticate,
        wire.CYCLE_REQUEST: cycle_request,
        wire.REPORT: report,
        wire.SOCKET: socket_handler(parts, pygrid.authenticate, pygrid.cycle_request, pygrid.report),
        **_file_routes(parts),
        **_speed_routes(parts),
    }


def _file_routes(parts: PyGridParts) -> Routes:
    async def working(asked: wire.FetchQuery) -> tuple[SeriesRow, str]:
        row, job = await parts.rounds.working(asked.worker_id, asked.request_key)
        return row, job.checkpoint

    async def model(request: web.Request) -> web.StreamResponse:
        asked: wire.FetchQuery = body.query(request, wire.GET_MODEL)
        row, checkpoint = await working(asked)
        if asked.model_id not in ("", str(row.id)):
            raise ModelNotFound("this request_key is for another model")
        return await send_parts(request, await parts.series.checkpoint(row, checkpoint))

    async def plan(request: web.Request) -> web.StreamResponse:
        asked: wire.FetchQuery = body.query(request, wire.GET_PLAN)
        row, _ = await working(asked)
        return await send_parts(request, _file(parts, plan_file(row, asked.plan_id, asked.receive_operations_as)))

    async def protocol(request: web.Request) -> web.StreamResponse:
        asked: wire.FetchQuery = body.query(request, wire.GET_PROTOCOL)
        row, _ = await working(asked)
        return await send_parts(request, _file(parts, protocol_file(row, asked.protocol_id)))

    async def retrieve(request: web.Request) -> web.StreamResponse:
        asked: wire.RetrieveQuery = body.query(request, wire.RETRIEVE_MODEL)
        row = await parts.series.named(asked.name, asked.version)
        await parts.models.model(request[CALLER], row.model)
        return await send_parts(request, await parts.series.checkpoint(row, asked.checkpoint))

    return {
        wire.GET_MODEL: model,
        wire.GET_PLAN: plan,
        wire.GET_PROTOCOL: protocol,
        wire.RETRIEVE_MODEL: retrieve,
    }


def _speed_routes(parts: PyGridParts) -> Routes:
    slots = asyncio.Semaphore(TESTS)

    async def begin(asked: wire.SpeedQuery) -> None:
        await parts.series.known(asked.worker_id)
        if slots.locked():
            raise TooManyRequests("others are measuring: try again in a moment", retry_after=5.0)

    async def down(request: web.Request) -> web.StreamResponse:
        asked: wire.SpeedQuery = body.query(request, wire.SPEED_DOWN)
        if asked.is_ping:
            await parts.series.known(asked.worker_id)
            return web.Response(status=200)
        await begin(asked)
        async with slots:
            return await body.send(request, _noise(), wire.SPEED_TEST)

    async def up(request: web.Request) -> web.StreamResponse:
        await begin(body.query(request, wire.SPEED_UP))
        async with slots:
            async for _ in body.blocks(request, wire.SPEED_UP):
                pass
        return body.reply(wire.SPEED_UP, {"status": "success"})

    return {wire.SPEED_DOWN: down, wire.SPEED_UP: up}


def _file(parts: PyGridParts, digest: str) -> Parts:
    return parts.series.file(digest)


async def _noise() -> AsyncIterator[bytes]:
    """A speed test's bytes: one block again and again."""
    for _ in range(wire.SPEED_TEST // len(NOISE)):
        yield NOISE
