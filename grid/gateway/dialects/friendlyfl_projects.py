"""FriendlyFL's projects and participants."""

from __future__ import annotations

from aiohttp import web

from grid.gateway.consortia import Consortium
from grid.gateway.dialects.friendlyfl_rows import Handlers, number, page, participant_told, project_told, resource
from grid.gateway.record import Record
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.auth import Caller
from grid.wire import friendlyfl as wire
from grid.wire.problems import BadRequest


class ProjectRoutes:
    """Projects: made by who will coordinate them, joined by who knows the name."""

    _LISTING, _CREATE, _ONE, _PUT, *_ = wire.PROJECTS

    def __init__(self, record: Record) -> None:
        self._record, self._consortia = record, record.consortia

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return {
            wire.PROJECT_LOOKUP: self._lookup,
            **resource(wire.PROJECTS, Handlers(self._listed, self._made, self._shown, self._changed, self._removed)),
        }

    async def _told(self, caller: Caller, found: list[Consortium]) -> list[wire.Project]:
        parts = await self._record.runs.of(caller)
        newest = {each.project.id: 0 for each in found}
        for part in parts:
            newest[part.shared.project] = max(newest.get(part.shared.project, 0), part.shared.batch)
        return [project_told(each, newest[each.project.id]) for each in found]

    async def _answer(self, caller: Caller, found: Consortium) -> wire.Project:
        return (await self._told(caller, [found]))[0]

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        caller = request[CALLER]
        return page(request, self._LISTING, await self._told(caller, await self._consortia.of(caller)))

    async def _made(self, request: web.Request) -> web.StreamResponse:
        asked: wire.ProjectAsked = await body.read(request, self._CREATE)
        if asked.name is None or asked.site is None:
            raise BadRequest("a project has a name and a site")
        found = await self._consortia.create_or_join(
            request[CALLER], asked.site, asked.name, asked.description or "", asked.tasks or []
        )
        return body.reply(self._CREATE, await self._answer(request[CALLER], found), status=201)

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        caller = request[CALLER]
        return body.reply(self._ONE, await self._answer(caller, await self._consortia.get(caller, number(request))))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        asked, caller = await body.read(request, self._PUT), request[CALLER]
        found = await self._consortia.change(caller, number(request), asked.name, asked.description, asked.tasks)
        return body.reply(self._PUT, await self._answer(caller, found))

    async def _removed(self, request: web.Request) -> web.StreamResponse:
        await self._consortia.delete(request[CALLER], number(request))
        return web.Response(status=204)

    async def _lookup(self, request: web.Request) -> web.StreamResponse:
        asked, caller = body.query(request, wire.PROJECT_LOOKUP), request[CALLER]
        found = [
            each
            for each in await self._consortia.of(caller)
            if asked.name in {None, each.project.name}
            and (asked.site_id is None or any(site.id == asked.site_id for _, site in each.own(caller)))
        ]
        return body.reply(wire.PROJECT_LOOKUP, await self._told(caller, found))


class ParticipantRoutes:
    """Who is in which project; each sees its own place, a coordinator all."""

    _LISTING, _CREATE, _ONE, _PUT, *_ = wire.PARTICIPANTS

    def __init__(self, record: Record) -> None:
        self._record, self._consortia = record, record.consortia

    def routes(self) -> Routes:
        """Its endpoints, each with its handler."""
        return {
            wire.PARTICIPANT_LOOKUP: self._lookup,
            **resource(
                wire.PARTICIPANTS, Handlers(self._listed, self._made, self._shown, self._changed, self._removed)
            ),
        }

    async def _seen(self, caller: Caller) -> list[wire.Participant]:
        return [participant_told(row) for each in await self._consortia.of(caller) for row, _ in each.own(caller)]

    async def _listed(self, request: web.Request) -> web.StreamResponse:
        return page(request, self._LISTING, await self._seen(request[CALLER]))

    async def _made(self, request: web.Request) -> web.StreamResponse:
        asked: wire.ParticipantAsked = await body.read(request, self._CREATE)
        if asked.site is None or asked.project is None:
            raise BadRequest("a participant has a site and a project")
        row = await self._consortia.join(request[CALLER], asked.site, asked.project, asked.role == "CO", asked.notes)
        return body.reply(self._CREATE, participant_told(row), status=201)

    async def _shown(self, request: web.Request) -> web.StreamResponse:
        _, row, _ = await self._consortia.party(request[CALLER], number(request))
        return body.reply(self._ONE, participant_told(row))

    async def _changed(self, request: web.Request) -> web.StreamResponse:
        asked: wire.ParticipantAsked = await body.read(request, self._PUT)
        return body.reply(
            self._PUT, participant_told(await self._consortia.note(request[CALLER], number(request), asked.notes))
        )

    async def _removed(self, request: web.Request) -> web.StreamResponse:
        await self._consortia.leave(request[CALLER], number(request))
        return web.Response(status=204)

    async def _lookup(self, request: web.Request) -> web.StreamResponse:
        asked: wire.OfProject = body.query(request, wire.PARTICIPANT_LOOKUP)
        found = [each for each in await self._seen(request[CALLER]) if each.project == asked.project]
        return body.reply(wire.PARTICIPANT_LOOKUP, found)
