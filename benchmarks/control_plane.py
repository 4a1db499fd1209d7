"""The control plane's rate: an authenticated `POST /search` and its like, against a bare aiohttp JSON handler.

Each server runs in a process of its own, pinned to one core; the load comes from this process, on
another core, over 50 keep-alive connections that speak HTTP by hand (a client library would be the slower
side). Bare and grid take turns, so that a noisy machine disturbs both alike; each figure is a median.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple, cast

import uvloop
from aiohttp import web

from benchmarks.row import Row
from grid.crypto.identity import Identity
from grid.crypto.session import SessionKey, authorization, offer
from grid.transport import body
from grid.transport.app import create_app
from grid.transport.auth import Authenticator
from grid.transport.hello import session_handler
from grid.transport.metrics import Metrics
from grid.transport.serve import running
from grid.wire.directory import SEARCH, Found, Search
from grid.wire.message import encode
from grid.wire.session import SESSION, Accepted, Offer

CONNECTIONS = 50
QUESTION = Search(("#mnist", "#scans"))
ANSWER = Found((("alice", "https://alice.example:5001"), ("bob", "https://bob.example:5001")))

Build = Callable[[], web.Application]


class Load(NamedTuple):
    """What one turn measured: requests per second of the server's CPU time, which neighbours disturb less than
    the wall clock; requests per second; and the latency that one in a hundred exceeds, in seconds.
    """

    rate: float
    wall: float
    p99: float


class Served(NamedTuple):
    """A server that runs: its port and its process."""

    port: int
    pid: int

    def cpu(self) -> float:
        """Seconds of CPU that it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --- the two servers --------------------------------------------------------------------------


def bare() -> web.Application:
    async def search(request: web.Request) -> web.Response:
        question = await request.json()
        assert question["query"]
        return web.json_response({"node-addresses": ANSWER.node_addresses})

    app = web.Application()
    app.router.add_post("/search", search)
    return app


def grid() -> web.Application:
    async def search(request: web.Request) -> web.StreamResponse:
        await body.read(request, SEARCH)
        return body.reply(SEARCH, ANSWER, request=request)

    auth = Authenticator(SERVER, time.time)
    return create_app({SESSION: session_handler(auth), SEARCH: search}, auth=auth, metrics=Metrics(), about="Bench")


SERVER = Identity.from_seed(bytes(32))


def _server(build: Build, core: int, report: Connection) -> None:
    os.sched_setaffinity(0, {core})

    async def main() -> None:
        async with running(build(), keep_alive=60) as address:
            report.send(int(address.rpartition(":")[2]))
            await asyncio.Event().wait()

    with suppress(KeyboardInterrupt):
        uvloop.run(main())


class Server:
    """A server in its own process, on one core, for as long as the block lasts."""

    def __init__(self, build: Build, core: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._mine, theirs = context.Pipe()
        self._process = context.Process(target=_server, args=(build, core, theirs), daemon=True)

    def __enter__(self) -> Served:
        self._process.start()
        assert self._process.pid is not None
        return Served(self._mine.recv(), self._process.pid)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()


# --- the load ---------------------------------------------------------------------------------


class Driver(asyncio.Protocol):
    """One connection: sends a request, waits for the whole answer, sends the next."""

    def __init__(self, next_request: Callable[[], bytes], latencies: list[float], until: float) -> None:
        self._next, self._latencies, self._until = next_request, latencies, until
        self._buffer = b""
        self._sent_at = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's is none by birth
        self._send()

    def _send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._next())

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(rest) < length:
            return
        if not head.startswith(b"HTTP/1.1 200"):
            self.done.set_exception(RuntimeError(self._buffer.decode()))
            self._transport.close()
            return
        self._buffer = b""
        now = time.perf_counter()
        self._latencies.append(now - self._sent_at)
        if now < self._until:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)


async def drive(server: Served, next_request: Callable[[], bytes], seconds: float) -> Load:
    """Keep `CONNECTIONS` busy for `seconds`."""
    loop, latencies = asyncio.get_running_loop(), list[float]()
    started, cpu = time.perf_counter(), server.cpu()
    drivers = [Driver(next_request, latencies, started + seconds) for _ in range(CONNECTIONS)]
    for driver in drivers:
        await loop.create_connection(lambda driver=driver: driver, "127.0.0.1", server.port)  # type: ignore[misc]
    awake = asyncio.create_task(_stay_awake())
    async with asyncio.timeout(seconds + 10):
        await asyncio.gather(*(driver.done for driver in drivers))
    awake.cancel()
    took, cpu = time.perf_counter() - started, server.cpu() - cpu
    return Load(len(latencies) / cpu, len(latencies) / took, statistics.quantiles(latencies, n=100)[98])


async def _stay_awake() -> None:
    # To wake a sleeping process costs whoever writes to it: the slower server would pay more of that.
    while True:  # noqa: ASYNC110 - it waits for nothing
        await asyncio.sleep(0)


def http(method: str, target: str, content: bytes, headers: str = "") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(content)}\r\n{headers}\r\n".encode() + content


def sign_in(port: int) -> SessionKey:
    """A session with the grid's server, by hand."""
    message, state = offer(Identity.generate(), SERVER.public, time.time())

    async def ask() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(http("POST", SESSION.path, encode(Offer(message)), "Connection: close\r\n"))
        answer = await reader.read()
        writer.close()
        return answer

    accepted = SESSION.decode_reply(asyncio.run(ask()).partition(b"\r\n\r\n")[2])
    assert isinstance(accepted, Accepted)
    return state.complete(accepted.accepted, time.time())


def signed(key: SessionKey, method: str, target: str, content: bytes) -> Callable[[], bytes]:
    """Makes requests that are each signed anew within a session."""
    digest, counter = sha256(content).digest(), 0

    def next_request() -> bytes:
        nonlocal counter
        counter += 1
        header = authorization(key, counter, method, target, digest)
        return http(method, target, content, f"Authorization: {header}\r\n")

    return next_request


# --- the comparison -----------------------------------------------------------------------------


def compare(servers: dict[str, tuple[Served, Callable[[], bytes]]], seconds: float, turns: int) -> dict[str, Load]:
    """The median load that each server bears, the servers taking turns."""
    loads: dict[str, list[Load]] = {name: [] for name in servers}
    for turn in range(turns + 1):
        for name, (server, next_request) in servers.items():
            load = uvloop.run(drive(server, next_request, seconds))
            if turn:  # the first one warms up
                loads[name].append(load)
    return {name: Load(*map(statistics.median, zip(*each, strict=True))) for name, each in loads.items()}


def measure(seconds: float = 2.0, turns: int = 5) -> dict[str, float]:
    """Rates (per second of the server's CPU), their ratio, and p99 (seconds)."""
    content = encode(QUESTION)
    cores = sorted(os.sched_getaffinity(0))
    with Server(bare, cores[-1]) as bare_server, Server(grid, cores[-1]) as grid_server:
        os.sched_setaffinity(0, {cores[0]})
        key = sign_in(grid_server.port)
        plain = http("POST", SEARCH.path, content)
        loads = compare(
            {
                "bare": (bare_server, lambda: plain),
                "search": (grid_server, signed(key, "POST", SEARCH.path, content)),
                "unsigned": (grid_server, lambda: plain),
            },
            seconds,
            turns,
        )
        os.sched_setaffinity(0, cores)
    figures: dict[str, float] = {"search_ratio": round(loads["search"].rate / loads["bare"].rate, 3)}
    for name, load in loads.items():
        figures |= {f"{name}_per_s": round(load.rate), f"{name}_wall_per_s": round(load.wall)}
        figures[f"{name}_p99_s"] = round(load.p99, 4)
    return figures


def rows() -> Iterator[Row]:
    """The rows for `python -m benchmarks`."""
    found = measure(seconds=1.5, turns=3)
    yield Row("control.bare", "bare aiohttp JSON handler, 50 connections, one core", found["bare_per_s"], "/s")
    search, p99 = found["search_ratio"], found["search_p99_s"]
    yield Row("control.search", "transport: signed POST /search, of the bare rate", search, "x", least=0.5)
    yield Row("control.search.p99", "the same, one request of a hundred takes longer", p99 * 1000, "ms", most=50)
