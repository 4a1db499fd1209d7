"""What a round costs besides learning: a coordinator and two participants, each a process of its own.

The model goes out sealed, one step is trained on 32 rows, the updates come back sealed, the checkpoint is on
disk. Beside it, in the same run, the same bytes over bare aiohttp: one server, two clients, no disk, no keys.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import secrets
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import uvloop
from aiohttp import web

from benchmarks.daemons import READY_WITHIN, TAG, give_dataset, node, scratch
from benchmarks.row import Row
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.egress import Egress, open_http
from grid.client.grid import Grid, Node
from grid.client.writing import open_relay
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.wire.problems import Unreachable
from grid.wire.session import IDENTITY

SMALL, LARGE, HUGE = (64, 340, 10), (64, 1500, 1600, 10), (64, 4900, 5000, 10)
"""Sizes of a perceptron of 25,000 parameters (0.1 MB), of 2.5 million (10 MB), and of 25 million (99.5 MB)."""

WARM_UP = 5
EXAMPLES = 32


def model_bytes(sizes: tuple[int, ...]) -> int:
    """What a perceptron of these sizes takes as float32."""
    return sum(4 * (before + 1) * after for before, after in pairwise(sizes))


# --- rounds of the grid ---------------------------------------------------------------------------


class Listed(Grid):
    """A grid without a gateway: the nodes are known."""

    nodes: list[Node]

    async def search(self, *tags: str, match: str = "all", live: bool = False) -> list[Node]:
        return self.nodes


Timing = tuple[list[float], list[float]]


async def held(
    me: Identity,
    coordinator: str,
    participants: list[str],
    plan: Plan,
    rounds: int,
    on_close: Callable[[], None] = lambda: None,
) -> Timing:
    """The moments of checkpoints by the coordinator's clock, and seconds from opening to checkpoint.

    Nodes are given by their addresses, or those of their mailboxes.
    """
    async with AsyncExitStack() as stack:
        calls = Calls(await stack.enter_async_context(open_http(Egress(allow_private=True))), identity=me)
        await stack.enter_async_context(open_relay(calls, me, time.time))
        grid = Listed(GatewayDirectory(calls, "http://127.0.0.1:9"), calls, me, now=time.time)
        grid.nodes = [await known(calls, at) for at in participants]
        run = await grid.train(plan, TAG, rounds=rounds, quorum=len(participants), holdout=0.0, coordinator=coordinator)
        closed, inside = [], []
        async for event in run.watch():
            if event.kind == "round-closed":
                closed.append(event.at)
                inside.append(event.data["seconds"])
                on_close()
            if event.kind == "run-ended" and event.data["state"] != "success":
                raise RuntimeError(event.data["reason"])
    return closed, inside


async def known(calls: Calls, address: str) -> Node:
    """A node as a search would have found it."""
    async with asyncio.timeout(READY_WITHIN):
        while True:
            try:
                identity = await calls.call(address, IDENTITY)
                break
            except Unreachable:  # its mailbox is not open yet
                await asyncio.sleep(0.1)
    return Node(identity.node_id or "", address, (TAG,), True, "online", identity.public_key)


def between(moments: list[float], warm_up: int = WARM_UP) -> list[float]:
    """The time from each to the next, without the first ones."""
    return [after - before for before, after in pairwise(moments[warm_up:])]


def grid_rounds(
    folder: Path, sizes: tuple[int, ...], rounds: int, participants: int = 2, warm_up: int = WARM_UP
) -> Timing:
    """Start a coordinator and participants, hold `warm_up` rounds and `rounds` more."""
    me = Identity.generate()
    names = [f"node-{number}" for number in range(participants)]
    for name in names:
        give_dataset(folder / name, rows=EXAMPLES)
    with ExitStack() as stack:
        nodes = [stack.enter_context(node(folder, name, trust=me.id, warm=True)) for name in names]
        carol = stack.enter_context(node(folder, "carol", trust=me.id))
        plan = Plan.mlp(list(sizes), batch=EXAMPLES, steps=1)
        closed, inside = uvloop.run(held(me, carol.address, [each.address for each in nodes], plan, warm_up + rounds))
    return between(closed, warm_up), inside[warm_up:]


# --- the floor: the same bytes, and nothing else --------------------------------------------------


class Floor:
    """Hands out a model and takes updates; a round is over when all are in, and the next begins at once."""

    def __init__(self, size: int, rounds: int, clients: int) -> None:
        self._model, self._rounds, self._clients = secrets.token_bytes(size), rounds, clients
        self._round, self._in, self._bell = 1, 0, asyncio.Event()
        self.closed: list[float] = []
        self.over = asyncio.Event()

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/events", self.events)
        app.router.add_get("/model", self.model)
        app.router.add_put("/update", self.update)
        return app

    async def events(self, request: web.Request) -> web.Response:
        while self._round <= int(request.query["after"]):
            await self._bell.wait()
        return web.json_response({"round": self._round})

    async def model(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(self._model)
        await response.prepare(request)
        for start in range(0, len(self._model), 1 << 20):
            await response.write(self._model[start : start + (1 << 20)])
        return response

    async def update(self, request: web.Request) -> web.Response:
        async for _ in request.content.iter_any():
            pass
        self._in += 1
        if self._in == self._clients:
            self._round, self._in = self._round + 1, 0
            self.closed.append(time.perf_counter())
            bell, self._bell = self._bell, asyncio.Event()
            bell.set()
            if len(self.closed) > self._rounds:
                self.over.set()
        return web.json_response({})


def _floor_server(size: int, rounds: int, clients: int, report: Connection) -> None:
    async def main() -> None:
        floor = Floor(size, rounds, clients)
        runner = web.AppRunner(floor.app())
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        report.send(site.port)
        await floor.over.wait()
        report.send(floor.closed)

    uvloop.run(main())


def _floor_client(port: int) -> None:
    async def blocks(received: list[bytes]) -> Any:
        for block in received:
            yield block

    async def main() -> None:
        after, url = 0, f"http://127.0.0.1:{port}"
        async with aiohttp.ClientSession() as http:
            while True:
                async with http.get(f"{url}/events?after={after}") as response:
                    after = (await response.json())["round"]
                async with http.get(f"{url}/model") as response:
                    received = [block async for block in response.content.iter_any()]
                async with http.put(f"{url}/update", data=blocks(received)) as response:
                    await response.read()

    with suppress(aiohttp.ClientError):  # the server has seen enough
        uvloop.run(main())


def floor_rounds(size: int, rounds: int, participants: int = 2, warm_up: int = WARM_UP) -> list[float]:
    """Seconds of each round over bare aiohttp, `size` bytes down and up for each of the participants."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    server = context.Process(target=_floor_server, args=(size, warm_up + rounds, participants, theirs), daemon=True)
    server.start()
    port = mine.recv()
    clients = [context.Process(target=_floor_client, args=(port,), daemon=True) for _ in range(participants)]
    for client in clients:
        client.start()
    closed: list[float] = mine.recv()
    for process in (*clients, server):
        process.terminate()
        process.join()
    return between(closed, warm_up)


# --- the comparison ---------------------------------------------------------------------------------


def p90(values: list[float]) -> float:
    return statistics.quantiles(values, n=10)[-1]


def ms(seconds: float) -> float:
    return seconds * 1000


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    bare = floor_rounds(model_bytes(SMALL), 60)
    with scratch() as folder:
        periods, inside = grid_rounds(folder, SMALL, 40)
    floor = statistics.median(bare + floor_rounds(model_bytes(SMALL), 60))
    period, opened = statistics.median(periods), statistics.median(inside)
    what = "2 nodes, 0.1 MB, sealed, checkpoint on disk: whole round, median"
    yield Row("rounds.small", what, ms(period), "ms", most=50)
    yield Row("rounds.small.p90", "the same, nine rounds of ten are quicker", ms(p90(periods)), "ms")
    yield Row("rounds.small.opened", "of it from opening a round to its checkpoint, median", ms(opened), "ms")
    yield Row("rounds.small.floor", "the same bytes over bare aiohttp, no disk, no keys", ms(floor), "ms")
    yield Row("rounds.small.ratio", "whole round over that floor", period / floor, "x")
    yield from large()


def large() -> Iterator[Row]:
    """For information: no bound is set."""
    with scratch() as folder:
        periods, _ = grid_rounds(folder, LARGE, 10)
    period, floor = statistics.median(periods), statistics.median(floor_rounds(model_bytes(LARGE), 20))
    yield Row("rounds.large", "2 nodes, 10 MB: whole round, median", ms(period), "ms")
    yield Row("rounds.large.floor", "the same bytes over bare aiohttp", ms(floor), "ms")
    yield Row("rounds.large.ratio", "whole round over that floor", period / floor, "x")
