"""The HTTP of requests for access, of gates, and of the log of decisions."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from grid.node.access import Access
from grid.node.gates import Gates
from grid.node.permissions import Permissions
from grid.node.requests import Requests
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.feed import listen
from grid.wire import requests as wire
from grid.wire.directory import Done
from grid.wire.names import Name

Number = Annotated[int, Meta(ge=1)]


def request_routes(requests: Requests, gates: Gates, permissions: Permissions, access: Access) -> Routes:
    """Every endpoint of requests and gates, with its handler."""
    return {**_asking(requests), **_deciding(requests), **_gates(gates, permissions, access)}


def _asking(requests: Requests) -> Routes:
    async def ask(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.ASK)
        return body.reply(wire.ASK, await requests.ask(asked, request[CALLER]), request=request)

    async def listed(request: web.Request) -> web.StreamResponse:
        asked: wire.Which = body.query(request, wire.REQUESTS)
        found = await requests.all(request[CALLER], asked.state)
        return body.reply(wire.REQUESTS, wire.RequestList(found), request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        number = body.part(request, "id", Number)
        return body.reply(wire.REQUEST, await requests.get(number, request[CALLER]), request=request)

    async def events(request: web.Request) -> web.StreamResponse:
        caller = request[CALLER]
        return await listen(request, wire.REQUEST_EVENTS, lambda after: requests.events(caller, after))

    async def withdraw(request: web.Request) -> web.StreamResponse:
        number = body.part(request, "id", Number)
        return body.reply(wire.WITHDRAW, await requests.withdraw(number, request[CALLER]), request=request)

    return {
        wire.ASK: ask,
        wire.REQUESTS: listed,
        wire.REQUEST_EVENTS: events,
        wire.REQUEST: shown,
        wire.WITHDRAW: withdraw,
    }


def _deciding(requests: Requests) -> Routes:
    async def decide(request: web.Request) -> web.StreamResponse:
        decision, number = await body.read(request, wire.DECIDE), body.part(request, "id", Number)
        return body.reply(wire.DECIDE, await requests.decide(number, decision, request[CALLER]), request=request)

    async def audit(request: web.Request) -> web.StreamResponse:
        asked: wire.Behind = body.query(request, wire.AUDIT_LOG)
        return body.reply(wire.AUDIT_LOG, wire.AuditPage(await requests.audit(asked)), request=request)

    return {wire.DECIDE: decide, wire.AUDIT_LOG: audit}


def _gates(gates: Gates, permissions: Permissions, access: Access) -> Routes:
    async def set_gates(request: web.Request) -> web.StreamResponse:
        setting, name = await body.read(request, wire.SET_GATES), body.part(request, "name", Name)
        await gates.set(name, setting)
        return body.reply(wire.SET_GATES, Done(f"the gates of {name} are set"), request=request)

    async def told(request: web.Request) -> web.StreamResponse:
        info = permissions.info(access.asker(request[CALLER]), body.part(request, "name", Name))
        return body.reply(wire.GATES, gates.of(info.name), request=request)

    return {wire.SET_GATES: set_gates, wire.GATES: told}
