"""Counts and use of this node, for its administrators and for networks that it is associated with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import web

from grid.accounts.house import House
from grid.associations.service import Associations
from grid.node.catalogue import Catalogue
from grid.node.ledger import Ledger
from grid.store import events, requests
from grid.store.database import Database
from grid.store.schema import Snapshot
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.wire import associations as wire
from grid.wire.problems import NotAllowed
from grid.wire.rights import Right
from grid.worker.port import Engine

HOUR, SHOWN = 3600.0, 7 * 24
"""Activity is told by the hour, of the last week."""


@dataclass(frozen=True)
class Statistics:
    """What is counted. `running`: how many runs are in which state here."""

    database: Database
    catalogue: Catalogue
    house: House
    ledger: Ledger
    trainer: Engine
    running: Callable[[], dict[str, int]]
    now: Callable[[], float]

    async def told(self) -> wire.Statistics:
        """All of it, at this moment. Hidden datasets are not counted."""
        datasets = self.catalogue.advertised()
        budgets = await self.ledger.told()
        asked, hours = await self.database.read(partial(_read, since=self.now() - SHOWN * HOUR))
        workers = self.trainer.status()
        return wire.Statistics(
            datasets=len(datasets),
            tensors=sum(len(info.tensors) for info in datasets),
            tags=len(self.catalogue.tags()),
            accounts=len(self.house.book.accounts),
            groups=len(self.house.book.groups),
            roles=len(self.house.book.roles),
            requests=asked,
            runs=self.running(),
            workers=workers["seats"],
            workers_busy=workers["taken"],
            budgets=tuple(wire.BudgetUse(b.dataset, b.subject, b.epsilon, b.spent) for b in budgets),
            activity=hours,
        )


def _read(connection: Snapshot, since: float) -> tuple[dict[str, int], tuple[wire.Hour, ...]]:
    rounds, examples = Counter[float](), Counter[float]()
    for at, data in events.trained_since(connection, since):
        hour = at // HOUR * HOUR
        rounds[hour] += 1
        examples[hour] += int(data.get("examples", 0))
    hours = tuple(wire.Hour(hour, rounds[hour], examples[hour]) for hour in sorted(rounds))
    return requests.counts(connection), hours


def statistics_routes(statistics: Statistics, associations: Associations) -> Routes:
    """The endpoint, for those who may read it."""

    async def told(request: web.Request) -> web.StreamResponse:
        caller = request[CALLER]
        if not caller.has(Right.EDIT_SETTINGS) and not associations.is_associated(caller.id):
            raise NotAllowed("statistics are for administrators, and for networks that are associated with this node")
        return body.reply(wire.STATISTICS, await statistics.told(), request=request)

    return {wire.STATISTICS: told}
