"""Devices by the thousand against a node that runs: what `grid simulate --real` plays, over HTTP and in real time."""

from __future__ import annotations

import asyncio
import base64
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import aiohttp
import numpy as np

from grid.cli.processes import Daemons
from grid.device.device import Assignment, Device, Later
from grid.device.tensors import read, write
from grid.wire import model_centric as wire

T = TypeVar("T")

NAME, VERSION = "fleet", "1"
LINKS = 256
"""Connections at a time: this machine plays all devices."""
DEADLINE = 600.0
"""Seconds for a round."""
LOOK = 0.25


@dataclass(frozen=True)
class Crowd:
    """`devices` register; all check in, `rate` of them a second; `active` of them are let into a round.

    A model has so many float32 `numbers`.
    """

    devices: int
    active: int
    rate: float
    numbers: int


@dataclass
class Seen:
    """What was measured: seconds of each check-in, how many went how, the node's memory at its most (bytes)."""

    check_ins: list[float] = field(default_factory=list)
    handed_in: int = 0
    later: dict[str, int] = field(default_factory=dict)
    registering: float = 0.0
    round: float = 0.0
    memory: int = 0
    exact: bool = False

    def quantile(self, share: float) -> float:
        """Seconds of a check-in that so many were no slower than."""
        times = sorted(self.check_ins)
        return times[min(len(times) - 1, int(share * len(times)))]


def play(crowd: Crowd, seed: int = 0) -> Seen:
    """One round of a crowd with a node of its own, in a folder that goes with it. Raises DaemonFailed."""
    return asyncio.run(_play(crowd, random.Random(seed)))  # noqa: S311 - times, not keys


async def _play(crowd: Crowd, chance: random.Random) -> Seen:
    token = secrets.token_urlsafe(32)
    with TemporaryDirectory(prefix="grid-fleet-") as name:
        folder = Path(name)
        (folder / "tokens").write_text(f"ModelsWriter {token}\n")
        words = ("start", f"--data={folder / 'node'}", "--port=0", "--id=fleet", f"--tokens={folder / 'tokens'}")
        async with Daemons(folder) as daemons, _pool() as http:
            node = await daemons.start("node", "grid.cli.node", *words)
            fleet = Fleet(crowd, http, node.address, token, chance)
            await fleet.host()
            await fleet.register()
            await fleet.round()
            fleet.seen.memory = most_memory(node.pid)
            return fleet.seen


class Fleet:
    """All devices of a crowd, played by this process: each has its own secret, key and times; they learn the same."""

    def __init__(
        self, crowd: Crowd, http: aiohttp.ClientSession, address: str, token: str, chance: random.Random
    ) -> None:
        self._crowd, self._http, self._address, self._chance = crowd, http, address, chance
        self._owner = {"Authorization": f"Bearer {token}"}
        self._devices = [Device(self._ask, asyncio.sleep, NAME, VERSION) for _ in range(crowd.devices)]
        self._model = {"weights": np.zeros(crowd.numbers, "<f4")}
        self._difference = base64.b64encode(write({"weights": np.full(crowd.numbers, -1.0, "<f4")}))
        self._size = len(write(self._model))
        self.seen = Seen()

    async def host(self) -> None:
        """The process, as its owner hosts it."""
        said = {
            "model": base64.b64encode(write(self._model)).decode(),
            "client_config": {"name": NAME, "version": VERSION},
            "server_config": {
                "max_workers": self._crowd.active,
                "max_diffs": self._crowd.active,
                "min_diffs": self._crowd.active,
                "pool_selection": "iterate",
                "cycle_length": DEADLINE,
            },
        }
        async with self._http.post(self._address + wire.HOST.path, json=said, headers=self._owner) as answer:
            answer.raise_for_status()

    async def register(self) -> None:
        """All devices introduce themselves, as fast as the node takes it."""
        began = time.perf_counter()
        await in_turns(LINKS, [device.introduce for device in self._devices])
        self.seen.registering = time.perf_counter() - began

    async def round(self) -> None:
        """All check in, spread over time; who is let in fetches and hands in; the sum is looked at."""
        began = time.perf_counter()
        span = self._crowd.devices / self._crowd.rate
        links = asyncio.Semaphore(LINKS // 4)
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*(self._one(device, self._chance.random() * span, links) for device in self._devices))
            file = await self._summed()
        self.seen.round = time.perf_counter() - began
        self.seen.exact = bool((read(file)["weights"] == 1.0).all())

    async def _one(self, device: Device, delay: float, links: asyncio.Semaphore) -> None:
        await asyncio.sleep(delay)
        began = time.perf_counter()
        found = await device.check_in()
        self.seen.check_ins.append(time.perf_counter() - began)
        if isinstance(found, Later):
            self.seen.later[found.reason] = self.seen.later.get(found.reason, 0) + 1
            return
        async with links:
            await self._fetch(device, found)
            await device.report(found, self._difference)
        self.seen.handed_in += 1

    async def _fetch(self, device: Device, found: Assignment) -> None:
        """The model, which is the same for all: read and counted, not kept."""
        query, size = {"worker_id": device.worker, "request_key": found.key}, 0
        async with self._http.get(self._address + wire.GET_MODEL.path, params=query) as answer:
            answer.raise_for_status()
            async for block in answer.content.iter_any():
                size += len(block)
        if size != self._size:
            raise ConnectionError(f"{size} bytes of a model of {self._size}")

    async def _summed(self) -> bytes:
        query = {"name": NAME, "version": VERSION, "checkpoint": "2"}
        while True:
            url = self._address + wire.RETRIEVE_MODEL.path
            async with self._http.get(url, params=query, headers=self._owner) as answer:
                if answer.status == 200:
                    return await answer.read()
            await asyncio.sleep(LOOK)

    async def _ask(self, method: str, path: str, body: Sequence[bytes] = ()) -> tuple[int, bytes]:
        data = aiohttp.payload.BytesPayload(body[0]) if len(body) == 1 else _parts(body) if body else None
        words = {"Content-Type": "application/json", "Content-Length": str(sum(map(len, body)))} if body else {}
        try:
            async with self._http.request(method, self._address + path, data=data, headers=words) as answer:
                return answer.status, await answer.read()
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from None


async def in_turns(at_once: int, works: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
    """What all come to, so many at a time."""
    turns = asyncio.Semaphore(at_once)

    async def one(work: Callable[[], Awaitable[T]]) -> T:
        async with turns:
            return await work()

    return await asyncio.gather(*map(one, works))


def most_memory(pid: int) -> int:
    """Bytes of a process in memory, at its most so far; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _pool() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=LINKS), timeout=aiohttp.ClientTimeout(total=None, sock_read=60.0)
    )


async def _parts(body: Sequence[bytes]) -> AsyncIterator[bytes]:
    for part in body:
        for begin in range(0, len(part), 256 * 1024):
            yield part[begin : begin + 256 * 1024]
