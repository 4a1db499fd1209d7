"""Starting, draining, stopping."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from grid.client.egress import LOCAL, open_local
from grid.crypto.identity import Identity
from grid.transport.app import create_app
from grid.transport.auth import Authenticator
from grid.transport.metrics import Metrics
from grid.transport.serve import many_files, running, serve
from grid.wire.endpoint import Endpoint

SLOW: Endpoint[None, None] = Endpoint("GET", "/v1/slow")
QUICK: Endpoint[None, None] = Endpoint("GET", "/v1/quick")


class Slow:
    """A handler that waits until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, _: web.Request) -> web.StreamResponse:
        self.entered.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return web.Response(text="done")


async def quick(_: web.Request) -> web.StreamResponse:
    return web.Response(text="quick")


def app(slow: Slow) -> web.Application:
    auth = Authenticator(Identity.from_seed(bytes(32)), lambda: 0.0)
    return create_app({SLOW: slow, QUICK: quick}, auth=auth, metrics=Metrics(), about="Slow")


@asynccontextmanager
async def served(
    slow: Slow, drain_seconds: float = 5.0, on_drain: Callable[[], Awaitable[None]] | None = None
) -> AsyncIterator[tuple[str, asyncio.Task[None]]]:
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    daemon = asyncio.create_task(
        serve(
            app(slow), host="127.0.0.1", port=0, ready=ready.set_result, drain_seconds=drain_seconds, on_drain=on_drain
        )
    )
    try:
        async with asyncio.timeout(10):
            yield await ready, daemon
            await daemon
    finally:
        daemon.cancel()


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def test_what_is_under_way_is_finished() -> None:
    slow = Slow()
    async with served(slow) as (address, _), aiohttp.ClientSession() as http:
        answer = asyncio.create_task(http.get(address + SLOW.path))
        await slow.entered.wait()
        terminate()
        slow.go.set()

        assert await (await answer).text() == "done"


async def test_new_requests_meet_a_problem_while_draining() -> None:
    slow, draining, left = Slow(), asyncio.Event(), asyncio.Event()

    async def leave() -> None:
        draining.set()
        await left.wait()

    async with served(slow, on_drain=leave) as (address, _), aiohttp.ClientSession() as http:
        async with http.get(address + QUICK.path) as before:
            assert await before.text() == "quick"
        terminate()
        await draining.wait()
        async with http.get(address + QUICK.path) as after:  # on the connection that is still open
            assert (after.status, b"draining" in await after.read()) == (503, True)
        left.set()


async def test_draining_ends_in_time() -> None:
    slow = Slow()
    async with served(slow, drain_seconds=0.05) as (address, daemon), aiohttp.ClientSession() as http:
        answer = asyncio.create_task(http.get(address + SLOW.path))
        await slow.entered.wait()
        terminate()
        await daemon

        assert slow.cancelled.is_set()
        with pytest.raises(aiohttp.ClientError):
            await answer


async def test_a_second_signal_stops_at_once() -> None:
    slow, draining = Slow(), asyncio.Event()

    async def leave() -> None:
        draining.set()
        await asyncio.Event().wait()

    async with served(slow, drain_seconds=60, on_drain=leave) as (_, daemon):
        terminate()
        await draining.wait()
        terminate()

        await daemon


async def test_a_failing_farewell_does_not_keep_a_daemon_up(caplog: pytest.LogCaptureFixture) -> None:
    async def leave() -> None:
        raise KeyError("no directory")

    async with served(Slow(), on_drain=leave):
        terminate()

    assert "draining failed" in caplog.text


async def test_a_caller_who_hangs_up_ends_its_long_poll() -> None:
    slow = Slow()
    async with running(app(slow)) as address:
        _, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(b"GET /v1/slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await slow.entered.wait()
        writer.close()
        async with asyncio.timeout(5):
            await slow.cancelled.wait()


async def test_the_address_of_ipv6_has_brackets() -> None:
    async with running(app(Slow()), host="::1") as address:
        assert address.startswith("http://[::1]:")


async def test_a_daemon_without_a_host_answers_on_its_socket_alone(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    async with running(app(Slow()), host=None, local=socket) as address, open_local(str(socket)) as http:
        assert address == f"unix:{socket}"
        assert await (await http.get(LOCAL + QUICK.path)).text() == "quick"


async def test_a_daemon_with_a_host_answers_on_its_socket_too(tmp_path: Path) -> None:
    socket = tmp_path / "socket"
    async with running(app(Slow()), local=socket) as address, open_local(str(socket)) as http:
        assert await (await http.get(LOCAL + QUICK.path)).text() == "quick"
        async with aiohttp.ClientSession() as far:
            assert await (await far.get(address + QUICK.path)).text() == "quick"


def test_a_daemon_has_as_many_files_open_as_it_may() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, before[1]), before[1]))
        many_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
