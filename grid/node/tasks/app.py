"""The endpoints of tasks that wait for devices; the dialects have the others."""

from __future__ import annotations

from aiohttp import web

from grid.node.tasks.registry import Registry
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.feed import listen
from grid.wire.names import Name
from grid.wire.tasks import TASK_EVENTS


def task_routes(registry: Registry) -> Routes:
    """Every endpoint of tasks with its handler."""

    async def events(request: web.Request) -> web.StreamResponse:
        name = body.part(request, "task", Name)

        caller = request[CALLER]
        return await listen(request, TASK_EVENTS, lambda after: registry.events(caller, name, after), last="archived")

    return {TASK_EVENTS: events}
