"""The HTTP of privacy budgets, for the node's owner alone."""

from __future__ import annotations

from aiohttp import web

from grid.node.ledger import Ledger
from grid.transport import body
from grid.transport.app import Routes
from grid.wire import budgets as wire
from grid.wire.directory import Done


def budget_routes(ledger: Ledger) -> Routes:
    """Its endpoints, each with its handler."""

    async def told(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.BUDGETS, wire.Budgets(await ledger.told()), request=request)

    async def set_budget(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.SET_BUDGET)
        await ledger.set(asked)
        whose = f" of {asked.subject}" if asked.subject else ""
        done = Done(f"the budget{whose} on {asked.dataset} is epsilon {asked.epsilon:g} at delta {asked.delta:g}")
        return body.reply(wire.SET_BUDGET, done, request=request)

    async def drop(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.DROP_BUDGET)
        await ledger.drop(asked.dataset, asked.subject)
        return body.reply(wire.DROP_BUDGET, Done(f"{asked.dataset} has no such budget any more"), request=request)

    return {
        wire.BUDGETS: told,
        wire.SET_BUDGET: set_budget,
        wire.DROP_BUDGET: drop,
    }
