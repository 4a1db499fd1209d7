"""What a death costs: a participant killed while it trains, a spare standing by; a coordinator while it collects.

Daemons are processes of their own and end by SIGKILL. Times are those of the coordinator's events and of this
process, which share a clock. What must not happen (a dead node drawn, an update lost or counted twice) ends it.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks.daemons import TAG, Daemon, give_dataset, node, scratch
from benchmarks.rounds import Listed, known
from benchmarks.row import Row
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.egress import Egress, open_http
from grid.client.run import AsyncRun
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.wire.node import PART_EVENTS
from grid.wire.runs import After, Event

REPEATS = 3
ROWS = {"ann": 2_000, "bob": 2_000, "dan": 40_000}
"""Examples of each node: where a plan goes over all of them, dan is still training when ann has handed in."""


class Mortal:
    """A node that can be killed and started again at the same address, over the same files."""

    def __init__(self, folder: Path, name: str, trust: str) -> None:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            self._port = listening.getsockname()[1]
        self._folder, self.name, self._trust = folder, name, trust
        self._alive: AbstractContextManager[Daemon] | None = None

    def start(self) -> float:
        """Start it: seconds from the start of its process until it listens."""
        began = time.monotonic()
        self._alive = node(self._folder, self.name, trust=self._trust, warm=True, port=self._port)
        self.daemon = self._alive.__enter__()
        return time.monotonic() - began

    def kill(self) -> None:
        """End it by SIGKILL."""
        os.kill(self.daemon.pid, signal.SIGKILL)
        self.stop()

    def stop(self) -> None:
        """End it, if it runs."""
        alive, self._alive = self._alive, None
        if alive is not None:
            alive.__exit__(None, None, None)


class Bench:
    """Four nodes and their scientist; `story` is what was told of the present run."""

    def __init__(self, calls: Calls, me: Identity, nodes: dict[str, Mortal]) -> None:
        self._calls, self.nodes = calls, nodes
        self.grid = Listed(GatewayDirectory(calls, "http://127.0.0.1:9"), calls, me, now=time.time)
        self.story: list[Event] = []

    async def train(self, plan: Plan, names: tuple[str, ...], *, rounds: int, quorum: int, drawn: int = 0) -> AsyncRun:
        """A run with these nodes."""
        addresses = {name: self.nodes[name].daemon.address for name in names}
        self.grid.nodes = [await known(self._calls, address) for address in addresses.values()]
        carol = self.nodes["carol"].daemon.address
        run = await self.grid.train(
            plan, TAG, rounds=rounds, quorum=quorum, target_updates=2, drawn=drawn, holdout=0.0, coordinator=carol
        )
        self.story = []
        self._events = run.watch()
        return run

    async def until(self, kind: str, **data: object) -> Event:
        """The next event of a kind that says this. Raises RuntimeError when the run ends without it."""
        async for event in self._events:
            self.story.append(event)
            if event.kind == kind and all(event.data.get(name) == value for name, value in data.items()):
                return event
        raise RuntimeError(f"no {kind} {data} before the end: {self.story[-1]}")

    async def noted(self, run: AsyncRun, name: str, kind: str) -> list[Event]:
        """What a node noted of its part, once there is something of this kind."""
        data, found = self.nodes[name].daemon.data, list[Event]()
        peer = Identity.load(data / "identity.key").public
        async with open_http(Egress(allow_private=True)) as http:
            calls = Calls(http, identity=Identity.load(data / "owner.key"))
            while not any(event.kind == kind for event in found):
                query = After(found[-1].cursor if found else 0, 5.0)
                told = await calls.call(
                    self.nodes[name].daemon.address, PART_EVENTS, query=query, peer=peer, run=run.id
                )
                found += told.events
        return found


class Loss(NamedTuple):
    """Seconds: from the kill until the coordinator says so, and until a spare is drawn; from there to the round's
    closing; from the node's restart until it is drawn again."""

    noticed: float
    spare: float
    closed: float
    back: float


async def a_participant_dies(bench: Bench) -> Loss:
    """Two of three are drawn; the first is killed once it has taken a step."""
    plan = Plan.mlp([64, 256, 10], batch=32, steps=500)
    run = await bench.train(plan, ("ann", "bob", "dan"), rounds=500, quorum=1, drawn=2)
    dead = (await bench.until("round-opened", round=1)).data["invited"][0]
    await bench.noted(run, dead, "progress")
    killed = time.time()
    bench.nodes[dead].kill()
    lost = await bench.until("assignment", node=dead)
    (spare,) = (event for event in bench.story if event.kind == "spare-drawn")
    closed = await bench.until("round-closed", round=1)
    if closed.data["accepted"] != 2 or dead not in closed.data["failed"]:
        raise RuntimeError(f"not closed by the spare's update: {closed}")
    for number in range(2, 5):
        if dead in (await bench.until("round-opened", round=number)).data["invited"]:
            raise RuntimeError(f"{dead} was drawn into round {number}, and is dead")
    restarted = time.time()
    await asyncio.to_thread(bench.nodes[dead].start)
    opened = await bench.until("round-opened")
    while dead not in opened.data["invited"]:
        opened = await bench.until("round-opened")
    if opened.at < restarted:
        raise RuntimeError(f"{dead} was drawn into round {opened.data['round']}, and is dead")
    await run.stop()
    await bench.until("run-ended")
    return Loss(lost.at - killed, spare.at - killed, closed.at - lost.at, opened.at - restarted)


async def the_coordinator_dies(bench: Bench) -> tuple[float, float]:
    """Seconds from its restart until it listens, and until the run collects again.

    One update is acknowledged; the other node has finished and cannot hand in. It is killed as well, and comes back.
    """
    plan = Plan.mlp([64, 256, 10], batch=32, epochs=4)
    run = await bench.train(plan, ("ann", "dan"), rounds=2, quorum=2)
    await bench.until("update", round=1, node="ann")
    bench.nodes["carol"].kill()
    await bench.noted(run, "dan", "trained")
    await asyncio.sleep(0.5)  # sealed and on its disk
    bench.nodes["dan"].kill()
    restarted = time.time()
    listens = await asyncio.to_thread(bench.nodes["carol"].start)
    await asyncio.to_thread(bench.nodes["dan"].start)
    resumed = await bench.until("run-resumed", round=1)
    closed = await bench.until("round-closed", round=1)
    counted = Counter(event.data["node"] for event in bench.story if event.kind == "update")
    trained = Counter(e.data["round"] for e in await bench.noted(run, "dan", "trained") if e.kind == "trained")
    if counted != {"ann": 1, "dan": 1} or closed.data["accepted"] != 2 or trained[1] != 1:
        raise RuntimeError(f"counted {counted}, accepted {closed.data['accepted']}, trained {trained[1]} times")
    await bench.until("run-ended", state="success")
    return listens, resumed.at - restarted


async def deaths(folder: Path, me: Identity) -> AsyncIterator[Row]:
    """The rows, over one set of nodes."""
    with ExitStack() as stack:
        nodes = {name: Mortal(folder, name, me.id) for name in (*ROWS, "carol")}
        for each in nodes.values():
            stack.callback(each.stop)
            each.start()
        async with open_http(Egress(allow_private=True)) as http:
            bench = Bench(Calls(http, identity=me), me, nodes)
            losses = [await a_participant_dies(bench) for _ in range(REPEATS)]
            returns = [await the_coordinator_dies(bench) for _ in range(REPEATS)]
    noticed, spare, closed, back = zip(*losses, strict=True)
    dead = "participant killed while it trains"
    yield Row("deaths.noticed", f"{dead}: its coordinator says so, median", statistics.median(noticed), "s")
    yield Row("deaths.spare", f"{dead}: a spare is drawn, median", statistics.median(spare), "s")
    yield Row("deaths.round", "from that it is lost to the round's closing, median", statistics.median(closed), "s", 2)
    yield Row("deaths.round.worst", f"the same, worst of {REPEATS}", max(closed), "s", 2)
    yield Row("deaths.back", "from its restart until it is drawn again, median", statistics.median(back), "s")
    listens, resumed = zip(*returns, strict=True)
    yield Row("deaths.listens", "coordinator killed: from its restart until it listens, worst", max(listens), "s", 5)
    yield Row("deaths.resumed", "the same until its round collects again, median", statistics.median(resumed), "s", 5)
    yield Row("deaths.resumed.worst", f"the same, worst of {REPEATS}", max(resumed), "s", 5)


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""

    async def taken(folder: Path) -> list[Row]:
        return [row async for row in deaths(folder, Identity.generate())]

    with scratch() as folder:
        for name, count in ROWS.items():
            give_dataset(folder / name, rows=count)
        yield from asyncio.run(taken(folder))
