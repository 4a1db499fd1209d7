"""FriendlyFL's runs: read, opened, moved, stopped and begun anew."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from grid.gateway.dialects.friendlyfl_rows import number, page, run_told
from grid.gateway.dialects.friendlyfl_states import PENDING_FAILED, Status, step
from grid.gateway.record import Record
from grid.gateway.shared_runs import SharedPart, over
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.wire import friendlyfl as wire
from grid.wire.endpoint import Endpoint
from grid.wire.problems import EnvelopeRefused


class RunRoutes:
    """Runs: one for each participant of a batch."""

    def __init__(self, record: Record) -> None:
        self._record, self._runs = record, record.runs

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return {
            wire.RUN_LOOKUP: lambda request: self._chosen(request, wire.RUN_LOOKUP),
            wire.RUNS_ACTIVE: lambda request: self._chosen(request, wire.RUNS_ACTIVE, active=True),
            wire.RUN_DETAIL: lambda request: self._chosen(request, wire.RUN_DETAIL),
            wire.RUNS: self._listed,
            wire.OPEN_BATCH: self._opened,
            wire.RUN: self._shown,
            wire.CHANGE_RUN: self._changed,
            wire.RUN_STATUS: self._status,
            wire.ACTION: self._action,
        }

    async def _told(self, parts: list[SharedPart]) -> list[wire.Run]:
        return [await run_told(self._record, part) for part in parts]

    async def _chosen(
        self, request: web.Request, endpoint: Endpoint[Any, Any], active: bool = False
    ) -> web.StreamResponse:
        asked: wire.RunQuery = body.query(request, endpoint)
        found = [
            part
            for part in await self._runs.of(request[CALLER])
            if asked.project in {None, part.row.project}
            and asked.batch in {None, part.row.batch}
            and asked.site in {None, part.site.id}
            and asked.site_uid in {None, part.site.uid}
            and not (active and over(part.shared))
        ]
        return body.reply(endpoint, await self._told(found))

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        return page(request, wire.RUNS, await self._told(await self._runs.of(request[CALLER])))

    async def _opened(self, request: web.Request) -> web.StreamResponse:
        asked: wire.OfProject = await body.read(request, wire.OPEN_BATCH)
        parts = await self._runs.open_batch(request[CALLER], asked.project)
        return body.reply(wire.OPEN_BATCH, await self._told(parts), status=201)

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        return body.reply(
            wire.RUN, await run_told(self._record, await self._runs.get(request[CALLER], number(request)))
        )

    async def _moved(self, request: web.Request, endpoint: Endpoint[Any, Any], asked: wire.StatusAsked) -> web.Response:
        to = Status(asked.status)
        everybody = asked.update_all or asked.increase_round
        move = step(to, "said by its site")
        part = await self._runs.move(request[CALLER], number(request), move, everybody=everybody)
        return body.reply(endpoint, await run_told(self._record, part), status=202)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        return await self._moved(request, wire.RUN_STATUS, await body.read(request, wire.RUN_STATUS))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        asked: wire.RunChange = await body.read(request, wire.CHANGE_RUN)
        if asked.logs or asked.artifacts or asked.middle_artifacts:
            raise EnvelopeRefused("what a site has made travels sealed: leave it at runs-action/upload/")
        if asked.status is None:
            return await self._shown(request)
        return await self._moved(request, wire.CHANGE_RUN, wire.StatusAsked(asked.status))

    async def _action(self, request: web.Request) -> web.StreamResponse:
        asked: wire.Action = await body.read(request, wire.ACTION)
        part = await self._runs.get(request[CALLER], asked.run)
        if asked.action == "restart":
            await self._runs.restart(request[CALLER], part.row.project, part.row.batch)
        else:
            stop = step(PENDING_FAILED, "stopped by its coordinator")
            await self._runs.move(request[CALLER], asked.run, stop, everybody=True)
        return body.reply(
            wire.ACTION, await run_told(self._record, await self._runs.get(request[CALLER], asked.run)), status=202
        )
