"""200 MB in and out of a node against the bare `iter_any` and 1 MiB writes of aiohttp.

The same blocking socket drives both servers in turn, each server on a core of its own: what differs is the server.
`out` is an owner's download of a tensor from disk. `in` is what a node's transport takes in (`body.blocks`), with
nothing done to it. A bundle, sealed to the node, is opened, hashed and written besides: that is told apart.
"""

from __future__ import annotations

import asyncio
import http.client
import itertools
import multiprocessing
import os
import socket
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import uvloop
from aiohttp import web

from benchmarks.control_plane import SERVER
from benchmarks.daemons import give_dataset, node, scratch
from benchmarks.machine import cpu_seconds, forget_peak, peak_rss, usage
from benchmarks.row import Row
from grid.client.payload import sealed
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import read_published
from grid.crypto.session import EMPTY_BODY, SEALED_BODY, SessionKey, authorization, offer
from grid.transport import body
from grid.transport.app import Routes, create_app
from grid.transport.auth import Authenticator
from grid.transport.hello import session_handler
from grid.transport.metrics import Metrics
from grid.transport.serve import running
from grid.wire.directory import Done
from grid.wire.message import encode
from grid.wire.node import PREKEY, TENSOR, Published
from grid.wire.runs import PUT_BUNDLE
from grid.wire.session import SESSION, Accepted, Offer

SIZE = 200_000_000
BLOCK = 1 << 20
TURNS = 5
FEATURES = 1000
COUNTER = itertools.count(1)
"""Each request in a session has a number of its own."""

Sender = Callable[[], None]


# --- servers --------------------------------------------------------------------------------------


async def _answer(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = SIZE
    await response.prepare(request)
    block = bytes(BLOCK)
    for start in range(0, SIZE, BLOCK):
        await response.write(block[: SIZE - start])
    return response


async def _swallow(request: web.Request) -> web.Response:
    async for _ in request.content.iter_any():
        pass
    return web.json_response({})


def bare() -> web.Application:
    app = web.Application(client_max_size=0)
    app.add_routes([web.get("/out", _answer), web.put("/in", _swallow)])
    return app


def transport() -> web.Application:
    """The grid's transport alone: sessions, limits, paces; no disk."""

    async def take(request: web.Request) -> web.StreamResponse:
        async for _ in body.blocks(request, PUT_BUNDLE):
            pass
        return body.reply(PUT_BUNDLE, Done("taken"))

    async def give(request: web.Request) -> web.StreamResponse:
        return await body.send(request, _blocks(), SIZE)

    auth = Authenticator(SERVER, time.time)
    routes: Routes = {SESSION: session_handler(auth), PUT_BUNDLE: take, TENSOR: give}
    return create_app(routes, auth=auth, metrics=Metrics(), about="Bench")


async def _blocks() -> AsyncIterator[memoryview]:
    block = memoryview(bytearray(BLOCK))
    for start in range(0, SIZE, BLOCK):
        yield block[: SIZE - start]


def _serve(build: Callable[[], web.Application], core: int, report: Connection) -> None:
    os.sched_setaffinity(0, {core})

    async def main() -> None:
        async with running(build()) as address:
            report.send((int(address.rpartition(":")[2]), os.getpid()))
            await asyncio.Event().wait()

    with suppress(KeyboardInterrupt):
        uvloop.run(main())


# --- a client by hand -----------------------------------------------------------------------------


class Client(NamedTuple):
    """One who calls a server; `key` is its session, if the server knows of such."""

    port: int
    key: SessionKey | None = None

    def call(self, method: str, target: str, parts: list[memoryview] | None) -> float:
        """Send and receive; the seconds it took. The answer's body is read and dropped."""
        began = time.perf_counter()
        with socket.create_connection(("127.0.0.1", self.port)) as each:
            each.sendall(self._head(method, target, parts))
            for part in parts or ():
                each.sendall(part)
            self._hear(each)
        return time.perf_counter() - began

    def _head(self, method: str, target: str, parts: list[memoryview] | None) -> bytes:
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
        if parts is not None:
            lines += [f"Content-Length: {sum(map(len, parts))}", "Content-Type: application/octet-stream"]
        if self.key is not None:
            digest = EMPTY_BODY if parts is None else SEALED_BODY
            lines.append(f"Authorization: {authorization(self.key, next(COUNTER), method, target, digest)}")
        return "\r\n".join([*lines, "", ""]).encode()

    @staticmethod
    def _hear(each: socket.socket) -> None:
        buffer = memoryview(bytearray(BLOCK))
        size = each.recv_into(buffer)
        head, _, rest = bytes(buffer[:size]).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(bytes(buffer[:size])[:500])
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        left = length - len(rest)
        while left > 0:
            left -= each.recv_into(buffer)


def sign_in(port: int, identity: Identity, server: bytes) -> Client:
    message, state = offer(identity, server, time.time())
    accepted = SESSION.decode_reply(_ask(port, "POST", SESSION.path, encode(Offer(message))))
    assert isinstance(accepted, Accepted)
    return Client(port, state.complete(accepted.accepted, time.time()))


def _ask(port: int, method: str, path: str, content: bytes = b"") -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10.0)
    connection.request(method, path, content, {"Content-Type": "application/json", "Accept": "application/json"})
    answer = connection.getresponse().read()
    connection.close()
    return answer


# --- what is compared -----------------------------------------------------------------------------


class Course(NamedTuple):
    """One way for 200 MB through one server."""

    client: Client
    pid: int
    method: str
    target: str
    parts: list[memoryview] | None = None


class Speed(NamedTuple):
    """MB per second of time, and per second of the server's processor."""

    wall: float
    cpu: float


def compare(courses: dict[str, Course], turns: int = TURNS) -> dict[str, Speed]:
    """Median speeds; the courses take turns, the first turn warms up."""
    taken: dict[str, list[Speed]] = {name: [] for name in courses}
    for turn in range(turns + 1):
        for name, course in courses.items():
            before = cpu_seconds([course.pid])
            wall = course.client.call(course.method, course.target, course.parts)
            if turn:
                cpu = cpu_seconds([course.pid]) - before
                taken[name].append(Speed(SIZE / 1e6 / wall, SIZE / 1e6 / cpu))
    return {
        name: Speed(statistics.median(s.wall for s in each), statistics.median(s.cpu for s in each))
        for name, each in taken.items()
    }


@contextmanager
def serving(build: Callable[[], web.Application], core: int) -> Iterator[tuple[int, int]]:
    """A server in a process of its own: its port and its process."""
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    server = context.Process(target=_serve, args=(build, core, theirs), daemon=True)
    server.start()
    try:
        yield mine.recv()
    finally:
        server.terminate()
        server.join()


def envelope(owner: Identity, node_key: bytes, port: int) -> tuple[str, list[memoryview]]:
    """200 MB sealed to a node as a bundle, before the clock runs: the name under which it is put, and the bytes."""
    published, now = PREKEY.decode_reply(_ask(port, "GET", PREKEY.path)), int(time.time())
    assert isinstance(published, Published)
    payload = bytes(SIZE)
    header = Header(sender=owner.public, audience=node_key, kind="bundle", created=now, expires=now + 3600, length=SIZE)
    blocks = sealed(owner, header, [payload], read_published(published.prekey, node_key, now))
    return sha256(payload).hexdigest(), [memoryview(block) for block in blocks]


def measure(folder: Path, core: int) -> tuple[dict[str, Speed], float]:
    """The speed of every course, and by how many MB the node's memory grew at most."""
    give_dataset(folder / "alice", rows=SIZE // FEATURES // 4, features=FEATURES)
    owner = Identity.load_or_create(folder / "alice" / "owner.key")
    with (
        serving(bare, core) as (bare_port, bare_pid),
        serving(transport, core) as (port, pid),
        node(folder, "alice", trust=owner.id) as alice,
    ):
        os.sched_setaffinity(alice.pid, {core})
        node_key = Identity.load_or_create(alice.data / "identity.key").public
        node_port = int(alice.address.rpartition(":")[2])
        plain, signed = Client(bare_port), sign_in(port, owner, SERVER.public)
        owners = sign_in(node_port, owner, node_key)
        name, bundle = envelope(owner, node_key, node_port)
        zeros = [memoryview(bytes(BLOCK))[: SIZE - start] for start in range(0, SIZE, BLOCK)]
        tensor, put = "/v1/datasets/bench/tensors/features", "/v1/bundles/"
        idle = usage([alice.pid]).rss
        forget_peak(alice.pid)
        speeds = compare(
            {
                "bare in": Course(plain, bare_pid, "PUT", "/in", zeros),
                "transport in": Course(signed, pid, "PUT", put + name, zeros),
                "bare out": Course(plain, bare_pid, "GET", "/out"),
                "transport out": Course(signed, pid, "GET", tensor),
                "node out": Course(owners, alice.pid, "GET", tensor),
                "node in": Course(owners, alice.pid, "PUT", put + name, bundle),
            }
        )
        return speeds, peak_rss(alice.pid) - idle


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[0]})
    with scratch() as folder:
        speeds, grown = measure(folder, cores[-1])
    yield Row("streams.bare.in", "bare aiohttp takes in 200 MB with content.iter_any()", speeds["bare in"].wall, "MB/s")
    yield Row("streams.bare.out", "bare aiohttp sends 200 MB in 1 MiB writes", speeds["bare out"].wall, "MB/s")
    for name, what, least in (
        ("transport in", "taken in by a daemon's transport, of the bare rate", 0.5),
        ("transport out", "sent by a daemon's transport, of the bare rate", 0.5),
        ("node out", "a tensor from a node's disk, of the bare rate", 0.5),
        ("node in", "a sealed bundle into a node: opened, proved, hashed, on disk", None),
    ):
        floor, speed = speeds[f"bare {name.split()[1]}"], speeds[name]
        dotted = f"streams.{name.replace(' ', '.')}"
        yield Row(dotted, what, speed.wall / floor.wall, "x", least=least)
        yield Row(f"{dotted}.cpu", "the same, by the server's processor time", speed.cpu / floor.cpu, "x")
    yield Row("streams.memory", "the node's peak above idle, both ways", grown, "MB", most=30)
