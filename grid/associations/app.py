"""The HTTP of associations, the same at a node and at a gateway."""

from __future__ import annotations

from aiohttp import web

from grid.associations.service import Associations
from grid.transport import body
from grid.transport.app import Routes
from grid.wire import associations as wire
from grid.wire.directory import Done
from grid.wire.names import Digest


def association_routes(associations: Associations) -> Routes:
    """Every endpoint of associations, with its handler."""

    async def propose(request: web.Request) -> web.StreamResponse:
        said = await associations.proposed(await body.read(request, wire.PROPOSE))
        return body.reply(wire.PROPOSE, said, request=request)

    async def challenge(request: web.Request) -> web.StreamResponse:
        said = await associations.challenged(await body.read(request, wire.CHALLENGE))
        return body.reply(wire.CHALLENGE, said, request=request)

    async def tell(request: web.Request) -> web.StreamResponse:
        await associations.heard(await body.read(request, wire.TELL))
        return body.reply(wire.TELL, Done("heard"), request=request)

    async def listed(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.ASSOCIATIONS, wire.Associations(tuple(await associations.all())), request=request)

    async def ask(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.ASK_FOR)
        return body.reply(wire.ASK_FOR, await associations.ask(asked), request=request)

    async def decide(request: web.Request) -> web.StreamResponse:
        decision, id_ = await body.read(request, wire.DECIDE), body.part(request, "id", Digest)
        return body.reply(wire.DECIDE, await associations.decide(id_, decision), request=request)

    async def end(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.END, await associations.end(body.part(request, "id", Digest)), request=request)

    return {
        wire.PROPOSE: propose,
        wire.CHALLENGE: challenge,
        wire.TELL: tell,
        wire.ASSOCIATIONS: listed,
        wire.ASK_FOR: ask,
        wire.DECIDE: decide,
        wire.END: end,
    }


def network_routes(associations: Associations) -> Routes:
    """What a network does with its associations beside: it reads the statistics of nodes."""

    async def statistics(request: web.Request) -> web.StreamResponse:
        told = await associations.statistics_of(body.part(request, "id", Digest))
        return body.reply(wire.STATISTICS_OF, told, request=request)

    return {wire.STATISTICS_OF: statistics}
