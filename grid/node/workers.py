"""The workers of this node, for whoever manages its infrastructure: listed, added and removed while it runs."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Annotated

from aiohttp import web
from msgspec import Meta

from grid.store import settings
from grid.store.database import Database
from grid.transport import body
from grid.transport.app import Routes
from grid.wire import workers as wire
from grid.wire.problems import RequestRefused
from grid.worker.port import Engine

Number = Annotated[int, Meta(ge=1)]
COUNT = "workers"
"""The setting that says how many there are, where that was changed while the node ran."""
MOST = 256


class Workers:
    """Those of the engine that trains. How many there are holds after a restart, too."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database, self._engine = database, engine
        if count := database.read_now(partial(settings.get, name=COUNT)):
            engine.resize(int(count))

    def told(self) -> wire.Workers:
        """All of them, as they are."""
        now = time.monotonic()
        told = [
            wire.WorkerInfo(w.number, w.job, w.run, now - w.since if w.job else 0.0, w.device, w.seconds, w.memory)
            for w in self._engine.workers()
        ]
        return wire.Workers(tuple(told), self._engine.status()["waiting"], os.getloadavg()[0])

    async def add(self, more: int) -> wire.Workers:
        """Have so many more. Raises RequestRefused."""
        return await self._resized(self._engine.status()["seats"] + more)

    async def remove(self, number: int) -> wire.Workers:
        """Have one less; whatever it was at begins anew with another. Raises NotFound, RequestRefused."""
        if self._engine.status()["seats"] == 1:
            raise RequestRefused("a node keeps one worker at least; stop the node instead")
        self._engine.dismiss(number)
        return await self._resized(self._engine.status()["seats"] - 1)

    async def _resized(self, count: int) -> wire.Workers:
        if count > MOST:
            raise RequestRefused(f"a node has {MOST} workers at most")
        self._engine.resize(count)
        await self._database.write(partial(settings.put, name=COUNT, value=self._engine.status()["seats"]))
        return self.told()


def worker_routes(workers: Workers) -> Routes:
    """Their endpoints, each with its handler."""

    async def listed(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.WORKERS, workers.told(), request=request)

    async def add(request: web.Request) -> web.StreamResponse:
        more = await body.read(request, wire.ADD_WORKERS)
        return body.reply(wire.ADD_WORKERS, await workers.add(more.workers), request=request)

    async def remove(request: web.Request) -> web.StreamResponse:
        number = body.part(request, "number", Number)
        return body.reply(wire.REMOVE_WORKER, await workers.remove(number), request=request)

    return {wire.WORKERS: listed, wire.ADD_WORKERS: add, wire.REMOVE_WORKER: remove}
