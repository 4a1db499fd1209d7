"""FLaaS over this node's fleets, tasks and accounts: a translation, which owns no rule, no table and no sum."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp import web

from grid.learning.tensors import header_bytes
from grid.node.dialects.flaas_rows import FlaasParts, project_told, round_told
from grid.node.fleet.registry import topic
from grid.node.tasks.jobs import settle_tensors
from grid.store.events import LIMIT
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.feed import listen
from grid.transport.parts import file_parts, send_parts
from grid.wire import flaas as wire
from grid.wire.accounts import Login, Tokens
from grid.wire.names import Name
from grid.wire.problems import BadRequest, DeviceNotFound, OutOfTurn
from grid.wire.runs import After, Event, Events

SAMPLES = "samples.bin"


def flaas_routes(parts: FlaasParts) -> Routes:
    """Every route of `/api/` with its handler."""
    return {
        **_token_routes(parts),
        **_project_routes(parts),
        **_owner_routes(parts),
        **_round_routes(parts),
        **_upload_routes(parts),
        **_device_routes(parts),
    }


def _token_routes(parts: FlaasParts) -> Routes:
    logins = parts.house.logins

    def pair(tokens: Tokens) -> wire.Pair:
        return wire.Pair(refresh=tokens.refresh, access=tokens.token)

    async def obtain(request: web.Request) -> web.StreamResponse:
        said = await body.read(request, wire.TOKEN)
        tokens = await logins.login(Login(said.username, said.password), request.remote or "")
        return body.reply(wire.TOKEN, pair(tokens))

    async def refresh(request: web.Request) -> web.StreamResponse:
        said = await body.read(request, wire.TOKEN_REFRESH)
        return body.reply(wire.TOKEN_REFRESH, pair(await logins.refresh(said.refresh)))

    return {wire.TOKEN: obtain, wire.TOKEN_REFRESH: refresh}


def _project_routes(parts: FlaasParts) -> Routes:
    fleets = parts.fleets

    async def listed(request: web.Request) -> web.StreamResponse:
        caller = request[CALLER]
        rows = [await fleets.get(caller, each.id) for each in await fleets.seen_by(caller)]
        return body.reply(wire.PROJECTS, [project_told(row, last.turn.number) for row, last in rows])

    async def shown(request: web.Request) -> web.StreamResponse:
        row, last = await fleets.get(request[CALLER], _project(request))
        return body.reply(wire.PROJECT, project_told(row, last.turn.number))

    async def events(request: web.Request) -> web.StreamResponse:
        number = _project(request)
        await fleets.get(request[CALLER], number)

        async def read(after: After) -> Events:
            found = await parts.events.wait(topic(number), after.after, after.wait, LIMIT)
            told = tuple(Event(each.cursor, each.kind, each.at, msgspec.json.decode(each.data)) for each in found)
            return Events(told, told[-1].cursor if told else after.after)

        return await listen(request, wire.EVENTS, read, last="removed")

    return {wire.PROJECTS: listed, wire.PROJECT: shown, wire.EVENTS: events}


def _owner_routes(parts: FlaasParts) -> Routes:
    fleets = parts.fleets

    async def created(request: web.Request) -> web.StreamResponse:
        row = await fleets.create(request[CALLER], await body.read(request, wire.CREATE_PROJECT))
        return body.reply(wire.CREATE_PROJECT, project_told(row, 0), status=201)

    async def changed(request: web.Request) -> web.StreamResponse:
        said = await body.read(request, wire.PUT_PROJECT)
        row = await fleets.change(request[CALLER], _project(request), said)
        _, last = await fleets.get(request[CALLER], row.id)
        return body.reply(wire.PUT_PROJECT, project_told(row, last.turn.number))

    async def removed(request: web.Request) -> web.StreamResponse:
        for task in await fleets.remove(request[CALLER], _project(request)):
            await parts.rounds.abandon(task)
        return web.Response(status=204)

    async def tick(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.TICK, await parts.rounds.tick())

    return {
        wire.CREATE_PROJECT: created,
        wire.PUT_PROJECT: changed,
        wire.DELETE_PROJECT: removed,
        wire.TICK: tick,
    }


def _round_routes(parts: FlaasParts) -> Routes:
    rounds = parts.rounds

    async def model(request: web.Request) -> web.StreamResponse:
        return await send_parts(request, await parts.fleets.model(request[CALLER], _project(request), _round(request)))

    async def join(request: web.Request) -> web.StreamResponse:
        """FLaaS's six states are what an assignment goes through; the sixth is not a device's to declare."""
        caller, asked = request[CALLER], body.query(request, wire.JOIN_ROUND)
        number, which = _project(request), _round(request)
        if asked.status == wire.JOIN:
            told = await rounds.join(caller, number, which)
        elif asked.status in (wire.DOWNLOAD_MODEL, wire.TRAIN, wire.MERGE_MODELS):
            told = await rounds.open_round(caller, number, which)
            await parts.jobs.progressed(caller, told[1].task, 1 if asked.status == wire.DOWNLOAD_MODEL else 2)
        else:
            told = await rounds.round_of(caller, number, which)
            if asked.status == wire.COMPLETE:
                await rounds.finished(caller, told[1])
        return body.reply(wire.JOIN_ROUND, round_told(*told))

    return {wire.GET_MODEL: model, wire.JOIN_ROUND: join, wire.POST_JOIN_ROUND: join}


def _upload_routes(parts: FlaasParts) -> Routes:
    async def submit_model(request: web.Request) -> web.StreamResponse:
        caller, asked = request[CALLER], body.query(request, wire.SUBMIT_MODEL)
        body.part(request, "filename", Name)
        row, found = await parts.rounds.round_of(caller, _project(request), _round(request))
        if not found.task:
            raise OutOfTurn(f"round {found.turn.number} has not begun")
        terms = row.terms
        async with parts.jobs.handing_in_as(caller, found.task) as handing:
            header, draft = header_bytes(handing.layout), handing.draft()
            try:
                draft.write(header)
                async for block in body.blocks(request, wire.SUBMIT_MODEL):
                    draft.write(block)
                    del block  # see `transport.body.blocks`
                await asyncio.to_thread(settle_tensors, draft, handing.layout, len(header))
                await handing.register(draft, asked.samples or terms.number_of_samples * terms.number_of_apps)
            finally:
                draft.abort()
        return web.Response(status=201)

    async def submit_results(request: web.Request) -> web.StreamResponse:
        filename = body.part(request, "filename", Name)
        said = b"".join([block async for block in body.blocks(request, wire.SUBMIT_RESULTS_FILE)])
        try:
            msgspec.json.decode(said)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(f"results are JSON: {error}") from None
        await parts.rounds.keep_result(request[CALLER], _project(request), _round(request), filename, said)
        return web.Response(status=201)

    return {wire.SUBMIT_MODEL: submit_model, wire.SUBMIT_RESULTS_FILE: submit_results}


def _device_routes(parts: FlaasParts) -> Routes:
    async def available(request: web.Request) -> web.StreamResponse:
        await parts.fleets.report(request[CALLER], await body.read(request, wire.REPORT_AVAILABILITY))
        return web.Response(status=201)

    async def samples(request: web.Request) -> web.StreamResponse:
        device = await parts.fleets.device(request[CALLER])
        kind, app = (body.part(request, each, Name) for each in ("dataset_type", "app"))
        path = parts.samples / kind / str(device.samples) / app / SAMPLES
        if not path.is_file():
            raise DeviceNotFound(f"there are no {kind} samples for {app} of index {device.samples} here")
        found = path.stat()
        return await send_parts(request, file_parts(path, f"{found.st_size:x}-{found.st_mtime_ns:x}"))

    async def key(_: web.Request) -> web.StreamResponse:
        return body.reply(wire.PUSH_KEY, wire.PushKey(parts.push_key))

    async def wake(request: web.Request) -> web.StreamResponse:
        said = await body.read(request, wire.PUT_PUSH)
        await parts.fleets.wake(request[CALLER], said.wake)
        return web.Response(status=204)

    return {
        wire.REPORT_AVAILABILITY: available,
        wire.SAMPLES: samples,
        wire.PUSH_KEY: key,
        wire.PUT_PUSH: wake,
    }


def _project(request: web.Request) -> int:
    return body.part(request, "project", wire.Number)


def _round(request: web.Request) -> int:
    return body.part(request, "round", wire.Number)
