"""Start an application, say when it is ready, and end it without losing what is under way."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from aiohttp import web

from grid.transport.app import GATE

KEEP_ALIVE = 15.0
"""Seconds that a connection may stay without a whole request head: idle, or dripping one."""

LINGER = 2.0
"""Seconds in which the rest of a refused body is read and dropped, so that its sender gets to see the answer."""

FAREWELL = 0.5
"""Seconds that a handler gets to end after it was told to, once draining is over."""

log = logging.getLogger(__name__)


async def serve(
    app: web.Application,
    *,
    host: str | None,
    port: int,
    ready: Callable[[str], None],
    drain_seconds: float = 10.0,
    on_drain: Callable[[], Awaitable[None]] | None = None,
    local: Path | None = None,
) -> None:
    """Answer on `host` and `port` (0: any free one; no host: no port) until SIGTERM or SIGINT, then drain.

    It answers on the socket `local` of this machine as well. `ready` gets the address, "http://HOST:PORT", or
    "unix:PATH" without a host. To drain is: take no more connections, await `on_drain`
    (leave the directory, wake long-polls), and finish requests under way, all within `drain_seconds`;
    new requests on open connections meet a `draining` problem. A second signal stops at once.
    """
    many_files()
    async with _site(app, host, port, KEEP_ALIVE, local) as (site, address):
        with _signals() as signals:
            ready(address)
            await signals.get()
            drain = asyncio.create_task(_drain(app, site, drain_seconds, on_drain))
            hurry = asyncio.create_task(signals.get())
            await asyncio.wait((drain, hurry), return_when=asyncio.FIRST_COMPLETED)
            await _end(drain, hurry)


def many_files() -> None:
    """Let this process have as many files and connections open as the system allows it.

    The usual limit, 1024, is for programs that wait with `select`; an upload takes a connection and two files.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@asynccontextmanager
async def running(
    app: web.Application,
    *,
    host: str | None = "127.0.0.1",
    port: int = 0,
    keep_alive: float = KEEP_ALIVE,
    local: Path | None = None,
) -> AsyncIterator[str]:
    """Answer for as long as the block lasts; gives the address. For daemons inside another program, and tests."""
    async with _site(app, host, port, keep_alive, local) as (_, address):
        yield address


@asynccontextmanager
async def _site(
    app: web.Application, host: str | None, port: int, keep_alive: float, local: Path | None
) -> AsyncIterator[tuple[web.BaseSite, str]]:
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=True,  # a caller who hangs up ends its long-poll
        keepalive_timeout=keep_alive,
        lingering_time=LINGER,
        auto_decompress=False,  # compressed bodies are refused before anything inflates them
        shutdown_timeout=FAREWELL,
    )
    await runner.setup()
    try:
        inner = None if local is None else web.UnixSite(runner, str(local), backlog=1024)
        if inner is not None:
            await inner.start()
        if host is None:
            assert inner is not None, "a daemon answers somewhere"
            yield inner, f"unix:{local}"
            return
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        yield site, f"http://{f'[{host}]' if ':' in host else host}:{site.port}"
    finally:
        await runner.cleanup()


@contextmanager
def _signals() -> Iterator[asyncio.Queue[int]]:
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[int] = asyncio.Queue()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, queue.put_nowait, number)
    try:
        yield queue
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


async def _drain(
    app: web.Application, site: web.BaseSite, seconds: float, on_drain: Callable[[], Awaitable[None]] | None
) -> None:
    gate = app[GATE]
    gate.draining = True
    await site.stop()
    try:
        async with asyncio.timeout(seconds):
            if on_drain is not None:
                await on_drain()
            await gate.drain()
    except TimeoutError:
        log.warning("still busy after %s seconds of draining: stopping", seconds)
    except Exception:
        log.exception("draining failed: stopping")


async def _end(*tasks: asyncio.Task[object]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
