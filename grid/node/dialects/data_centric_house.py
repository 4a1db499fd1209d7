"""PyGrid's associations and workers, over those of this node.

What that system called `receive`, which anybody could call, is not here: a proposal comes as `/v1/associations` has it,
and is called back.
"""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from msgspec import Meta

from grid.associations.service import Associations
from grid.node.workers import Workers
from grid.transport import body
from grid.transport.app import Routes
from grid.wire import associations as wire_associations
from grid.wire import data_centric as wire
from grid.wire.associations import AssociationInfo
from grid.wire.names import Digest
from grid.wire.problems import NotFound
from grid.wire.workers import WorkerInfo

Number = Annotated[int, Meta(ge=1)]
_STATES = {"active": "accepted", "asked": "pending", "received": "pending"}


def house_routes(associations: Associations, workers: Workers) -> Routes:
    """Every route of associations and workers, with its handler."""
    return {**_associations(associations), **_workers(workers)}


def _associations(associations: Associations) -> Routes:
    async def ask(request: web.Request) -> web.StreamResponse:
        given: wire.AssociationGiven = await body.read(request, wire.ASK_ASSOCIATION)
        info = await associations.ask(wire_associations.AskFor(given.address.rstrip("/")))
        return body.reply(wire.ASK_ASSOCIATION, _association(info), request=request)

    async def decide(request: web.Request) -> web.StreamResponse:
        said: wire.AssociationDecided = await body.read(request, wire.DECIDE_ASSOCIATION)
        decision = wire_associations.Decision(said.response == "accept")
        info = await associations.decide(said.id, decision)
        return body.reply(wire.DECIDE_ASSOCIATION, _association(info), request=request)

    async def listed(request: web.Request) -> web.StreamResponse:
        rows = [_association(info) for info in await associations.all()]
        return body.reply(wire.ASSOCIATIONS, rows, request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        id_ = body.part(request, "id", Digest)
        for info in await associations.all():
            if info.id == id_:
                return body.reply(wire.ASSOCIATION, _association(info), request=request)
        raise NotFound("there is no such association")

    async def end(request: web.Request) -> web.StreamResponse:
        info = await associations.end(body.part(request, "id", Digest))
        return body.reply(wire.END_ASSOCIATION, _association(info), request=request)

    return {
        wire.ASK_ASSOCIATION: ask,
        wire.DECIDE_ASSOCIATION: decide,
        wire.ASSOCIATIONS: listed,
        wire.ASSOCIATION: shown,
        wire.END_ASSOCIATION: end,
    }


def _workers(workers: Workers) -> Routes:
    async def listed(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.WORKERS, [_worker(each) for each in workers.told().workers], request=request)

    async def add(request: web.Request) -> web.StreamResponse:
        told = await workers.add(1)
        return body.reply(wire.ADD_WORKER, [_worker(each) for each in told.workers], request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        number = body.part(request, "id", Number)
        for each in workers.told().workers:
            if each.number == number:
                return body.reply(wire.WORKER, _worker(each), request=request)
        raise NotFound(f"there is no worker {number}")

    async def remove(request: web.Request) -> web.StreamResponse:
        told = await workers.remove(body.part(request, "id", Number))
        return body.reply(wire.REMOVE_WORKER, [_worker(each) for each in told.workers], request=request)

    return {wire.WORKERS: listed, wire.ADD_WORKER: add, wire.WORKER: shown, wire.REMOVE_WORKER: remove}


def _association(info: AssociationInfo) -> wire.Told:
    status = _STATES.get(info.state, "rejected")
    sent = info.state == "asked"
    return {"id": info.id, "date": info.changed, "name": info.name, "address": info.address} | {
        "pending": status == "pending",
        "accepted": status == "accepted",
        "status": status,
        "sender_address": "" if sent else info.address,
    }


def _worker(info: WorkerInfo) -> wire.Told:
    return {"id": info.number, "state": "success", "provider": "local", "job": info.job, "run": info.run} | {
        "seconds": info.seconds,
        "memory": info.memory,
    }
