"""The endpoints of projects: each handler parses, calls, responds."""

from __future__ import annotations

from aiohttp import web

from grid.node.projects import Projects
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.feed import listen
from grid.wire import projects as wire
from grid.wire.directory import Done


def project_routes(projects: Projects) -> Routes:
    """Every endpoint of projects with its handler."""
    return {**_coordinator_routes(projects), **_site_routes(projects)}


def _coordinator_routes(projects: Projects) -> Routes:
    async def create(request: web.Request) -> web.StreamResponse:
        info = await projects.create(await body.read(request, wire.CREATE_PROJECT))
        return body.reply(wire.CREATE_PROJECT, info, request=request)

    async def listed(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.PROJECTS, await projects.list(), request=request)

    async def admit(request: web.Request) -> web.StreamResponse:
        whom = await body.read(request, wire.ADMIT)
        await projects.admit(_project(request), whom.public_key)
        return body.reply(wire.ADMIT, Done(f"{whom.public_key} may join"), request=request)

    async def start(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.START_PROJECT, await projects.start(_project(request)), request=request)

    async def stop(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.STOP_PROJECT, await projects.stop(_project(request)), request=request)

    async def restart(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.RESTART_PROJECT, await projects.restart(_project(request)), request=request)

    return {
        wire.CREATE_PROJECT: create,
        wire.PROJECTS: listed,
        wire.ADMIT: admit,
        wire.START_PROJECT: start,
        wire.STOP_PROJECT: stop,
        wire.RESTART_PROJECT: restart,
    }


def _site_routes(projects: Projects) -> Routes:
    async def info(request: web.Request) -> web.StreamResponse:
        told = await projects.info(_project(request), request[CALLER])
        return body.reply(wire.PROJECT_INFO, told, request=request)

    async def events(request: web.Request) -> web.StreamResponse:
        project, caller = _project(request), request[CALLER]
        return await listen(
            request, wire.PROJECT_EVENTS, lambda after: projects.events(project, caller, after), last=""
        )

    async def member(request: web.Request) -> web.StreamResponse:
        signed = await body.read(request, wire.MEMBER_OF_PROJECT)
        said = await projects.member(_project(request), request[CALLER], signed)
        words = f"{said.node_id} {'has left' if said.leaves else 'takes part'}"
        return body.reply(wire.MEMBER_OF_PROJECT, Done(words), request=request)

    async def join(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.JOIN_PROJECT)
        return body.reply(wire.JOIN_PROJECT, await projects.join(asked), request=request)

    async def leave(request: web.Request) -> web.StreamResponse:
        await projects.leave(_project(request))
        return body.reply(wire.LEAVE_PROJECT, Done("this node takes part no longer"), request=request)

    return {
        wire.PROJECT_INFO: info,
        wire.PROJECT_EVENTS: events,
        wire.MEMBER_OF_PROJECT: member,
        wire.JOIN_PROJECT: join,
        wire.LEAVE_PROJECT: leave,
    }


def _project(request: web.Request) -> str:
    return body.part(request, "project", wire.ProjectId)
