"""A grid of real processes, of which any may be killed at a named point and is then started again.

Nothing is replaced: daemons, sandboxes, sockets and disks are those of a grid in use. `GRID_FAULT` says where.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.client.grid import Grid
from grid.client.run import AsyncRun
from grid.client.writing import open_relay
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.learning.strategy import PRESETS, travelling
from grid.protocol.documents import sign_document
from grid.protocol.draw import drawing_order
from grid.wire.directory import SEARCH, Search
from grid.wire.problems import Unreachable
from grid.wire.relay import mailbox_address
from grid.wire.runs import START_RUN, TASK, Peer, Quorum, StartRun, Task
from grid.wire.session import IDENTITY
from tests.grid_of_nodes import Peer_, Roll
from tests.replay import replayed

ROUNDS = 3
COORDINATOR, OTHERS, GATEWAY = "carol", ("ann", "bob", "dan"), "gateway"
SCIENTIST = Identity.from_seed(b"reliability".ljust(32))
COUNTED = re.compile(r"round (\d+): counted")
START = 60.0
"""Seconds that a daemon has for its start, and twice that a run for its end."""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@dataclass
class Daemon:
    """A node or a gateway as a process; `fault` ends the first one of it, another takes its place `again`.

    One that is `hidden` has no port: it reads its mailbox at the gateway.
    """

    name: str
    data: Path
    fault: str = ""
    gateway: Daemon | None = None
    port: int = field(default_factory=free_port)
    hidden: bool = False
    deaths: int = 0
    up: asyncio.Event = field(default_factory=asyncio.Event)
    again: asyncio.Event = field(default_factory=asyncio.Event)
    died: asyncio.Event = field(default_factory=asyncio.Event)
    _process: asyncio.subprocess.Process | None = None

    @property
    def address(self) -> str:
        if self.hidden and self.gateway:
            return mailbox_address(self.gateway.address, self.identity.id)
        return f"http://127.0.0.1:{self.port}"

    @property
    def identity(self) -> Identity:
        return Identity.load_or_create(self.data / "identity.key")

    @property
    def peer(self) -> Peer:
        return Peer(self.name, self.address, self.identity.id)

    @property
    def log(self) -> Path:
        return self.data / "log"

    @property
    def command(self) -> tuple[str, ...]:
        """What starts it."""
        common = ("start", "--port", str(self.port), "--data", str(self.data))
        if self.name == GATEWAY:
            return ("grid.cli.gateway", *common)
        listed = ("--gateway", self.gateway.address) if self.gateway else ()
        node = ("--id", self.name, "--trust", SCIENTIST.id, "--isolation", "prefer", "--workers", "1")
        return ("grid.cli.node", *common, *node, *listed, *(("--no-listen",) if self.hidden else ()))

    async def keep(self) -> None:
        """Run it; start it again each time that it was killed."""
        self.data.mkdir(parents=True, exist_ok=True)
        while True:
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", *self.command),
                    env={**os.environ, "GRID_FAULT": "" if self.deaths else self.fault},
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                )
            assert self._process.stdout is not None
            if b"listening on" in await self._process.stdout.readline():
                self.up.set()
            if await self._process.wait() != -signal.SIGKILL or self.deaths or not self.fault:
                raise AssertionError(f"{self.name} ended:\n{self.log.read_text()[-3000:]}")
            self.deaths += 1
            self.up.clear()
            self.died.set()
            await self.again.wait()

    async def stop(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def lost_a_worker(self) -> bool:
        """Whether a worker of it was killed."""
        return "SIGKILL" in self.log.read_text()

    @property
    def tensors(self) -> Path:
        """The file of its dataset."""
        (found,) = (self.data / "blobs").glob("??/??/*")
        return found

    def counted(self) -> Counter[tuple[int, str]]:
        """The rounds for which it was told that its update was counted."""
        return Counter((int(number), self.name) for number in COUNTED.findall(self.log.read_text()))


@dataclass
class Outcome:
    """How a run ended: its model, and what computation alone makes of the same updates in the same order.

    The updates that its coordinator counted, and those that participants know to be; how many processes were killed.
    `accepted` and `measured`: of each round, how many updates it counted, and who reported how its checkpoint does.
    `found`: which nodes the gateway finds again, if one was killed.
    """

    state: str
    model: bytes
    replayed: bytes
    counted: Counter[tuple[int, str]]
    acknowledged: set[tuple[int, str]]
    deaths: int
    reason: str = ""
    accepted: list[int] = field(default_factory=list)
    measured: list[set[str]] = field(default_factory=list)
    found: set[str] = field(default_factory=set)


async def outcome(
    folder: Path, who: str = "", fault: str = "", lost: str = "", broadcast: str = "exact", hidden: bool = False
) -> Outcome:
    """A run of `ROUNDS` rounds with three participants, in which `who` is killed at a point.

    `lost`: two of three are drawn, and this one is killed in the first round and away until a spare is drawn for it.
    `hidden`: no node has a port.
    """
    faults = {who: fault, **({lost: "before-fit"} if lost else {})}
    async with a_grid(folder, faults, hidden) as (daemons, gateway, calls):
        coordinator, *others = daemons
        away = next((daemon for daemon in others if daemon.name == lost), None)
        if away:
            away.again.clear()
        run = await started(calls, coordinator, others, broadcast, away)
        arrived: list[tuple[int, str]] = []
        state = reason = ""
        async with asyncio.timeout(2 * START):
            async for event in run.watch():
                if event.kind == "spare-drawn" and away:
                    away.again.set()
                if event.kind == "update":
                    arrived.append((event.data["round"], event.data["node"]))
                if event.kind == "run-ended":
                    state, reason = event.data["state"], event.data["reason"]
            assert state == "success", reason
            plan = await run.checkpoint()
            await heard(calls, others, Counter(arrived))
            lines = (await run.catch_up()).lines()
            found = await found_again(calls, gateway, others) if gateway and gateway.fault else set()
        orders = [[name for at, name in arrived if at == number] for number in range(1, ROUNDS + 1)]
        data = {daemon.name: daemon.tensors for daemon in others}
        return Outcome(
            state,
            bytes(plan.initial),
            replayed(run.plan, run.task, folder / "bundle", data, orders),
            Counter(arrived),
            set().union(*(daemon.counted() for daemon in others)),
            sum(daemon.deaths + daemon.lost_a_worker() for daemon in daemons) + (gateway.deaths if gateway else 0),
            reason,
            [line.accepted for line in lines],
            [set(line.by_node) for line in lines],
            found,
        )


async def found_again(calls: Calls, gateway: Daemon, nodes: list[Daemon]) -> set[str]:
    """Whom a search by tag finds, once the gateway was killed and started again, and everybody is listed."""
    await gateway.died.wait()
    found: set[str] = set()
    while found != {node.name for node in nodes}:
        await gateway.up.wait()
        with suppress(Unreachable):
            answer = await calls.call(gateway.address, SEARCH, Search(("#pulse",)))
            found = {node_id for node_id, _ in answer.node_addresses}
    return found


async def heard(calls: Calls, daemons: list[Daemon], counted: Counter[tuple[int, str]]) -> None:
    """Until all who were counted know it: the last answer may be on its way when the run has ended."""
    with suppress(TimeoutError):
        async with asyncio.timeout(10):
            for daemon in daemons:
                while any(each not in daemon.counted() for each in counted if each[1] == daemon.name):
                    await calls.call(daemon.address, IDENTITY)


@asynccontextmanager
async def a_grid(
    folder: Path, faults: dict[str, str], hidden: bool
) -> AsyncIterator[tuple[list[Daemon], Daemon | None, Calls]]:
    """A coordinator and three participants that answer, a gateway if it is needed, calls of the scientist."""
    listed = hidden or GATEWAY in faults
    gateway = Daemon(GATEWAY, folder / GATEWAY, faults.get(GATEWAY, "")) if listed else None
    daemons = [
        Daemon(name, folder / name, faults.get(name, ""), gateway, hidden=hidden) for name in (COORDINATOR, *OTHERS)
    ]
    for at, daemon in enumerate(daemons):
        if at:
            daemon.data.mkdir(parents=True)
            await add_data(daemon, at)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_http(Egress(allow_private=True)))
        await stack.enter_async_context(kept([*daemons, gateway] if gateway else daemons))
        calls = Calls(http, identity=SCIENTIST)
        await stack.enter_async_context(open_relay(calls, SCIENTIST, time.time))
        for daemon in daemons if hidden else ():
            await answering(calls, daemon)
        yield daemons, gateway, calls


async def answering(calls: Calls, daemon: Daemon) -> None:
    """Until its mailbox is open and read."""
    async with asyncio.timeout(START):
        while True:
            with suppress(Unreachable):
                await calls.call(daemon.address, IDENTITY)
                return


@asynccontextmanager
async def kept(daemons: list[Daemon]) -> AsyncIterator[None]:
    """Daemons that answer. One that does not start, or ends not by its fault, ends the block with its log."""
    async with AsyncExitStack() as stack:
        for daemon in daemons:
            stack.push_async_callback(daemon.stop)
            daemon.again.set()
        async with asyncio.TaskGroup() as group:
            keeping = [group.create_task(daemon.keep()) for daemon in daemons]
            try:
                async with asyncio.timeout(START):
                    for daemon in daemons:
                        await daemon.up.wait()
                yield
            finally:
                for task in keeping:
                    task.cancel()


async def add_data(daemon: Daemon, seed: int) -> None:
    """64 rows of its own: three features, and what a line makes of them."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(64, 3))
    rows = np.hstack([features, features @ [[1.0], [-2.0], [0.5]] + seed])
    file = daemon.data / "pulse.csv"
    np.savetxt(file, rows, delimiter=",", header="a,b,c,target", comments="", fmt="%.6f")
    adding = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "grid.cli.node", "dataset", "add", str(file), "--tag", "#pulse", "--target", "target"),
        *("--regression", "--data", str(daemon.data)),
        stdout=asyncio.subprocess.DEVNULL,
    )
    assert await adding.wait() == 0


async def started(
    calls: Calls, coordinator: Daemon, others: list[Daemon], broadcast: str, away: Daemon | None = None
) -> AsyncRun:
    """A run over all participants, whose quorum is all: SCAFFOLD, for which server and clients keep something.

    `away`: the quorum is two, as many are drawn, and this one is drawn into the first round.
    """
    plan, now = Plan.linear(3, 1, loss="mse", optimizer="sgd", lr=0.05, epochs=2, batch=8), time.time()
    task = Task(
        run=run_id(others, away),
        plan=plan.digest,
        coordinator=coordinator.identity.id,
        tags=("#pulse",),
        created=now,
        expires=now + 3600,
        rounds=ROUNDS,
        quorum=Quorum(2, 2, 2) if away else Quorum(len(others)),
        strategy=msgspec.to_builtins(travelling(PRESETS["scaffold"], broadcast=broadcast)),
        holdout=0.25,
    )
    where = Peer_(coordinator.address, coordinator.identity.id)
    await Grid(Roll(), calls, SCIENTIST, now=time.time)._hand_in(plan, where)
    message = StartRun(sign_document(SCIENTIST, TASK, task), tuple(other.peer for other in others))
    await calls.call(coordinator.address, START_RUN, message, peer=coordinator.identity.public)
    return AsyncRun(calls, SCIENTIST, coordinator.address, task, plan, time.time)


def run_id(others: list[Daemon], away: Daemon | None) -> str:
    """An id at random; one by which `away` is drawn first into the first round."""
    keys = [other.identity.id for other in others]
    while True:
        drawn = Identity.generate().public.hex()[:32]
        if away is None or drawing_order(keys, f"{drawn}/0", 1)[0] == away.identity.id:
            return drawn
