"""`grid.connect` and `grid.aio.connect`: from the address of a gateway to a grid."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.egress import Egress, open_http
from grid.client.grid import Coordinator, Grid
from grid.client.pins import FilePins, MemoryPins, Pins
from grid.client.plain import Loop, PlainGrid
from grid.client.writing import open_relay
from grid.crypto.identity import Identity
from grid.wire.problems import NoParticipants


def home() -> Path:
    """Where a scientist's key is kept: `GRID_HOME`, or `~/.config/grid`."""
    return Path(os.environ.get("GRID_HOME") or Path.home() / ".config" / "grid")


def my_identity(folder: Path | None = None) -> Identity:
    """The scientist's key; made at the first call, readable by nobody else."""
    return Identity.load_or_create((folder or home()) / "identity.key")


def my_pins(now: Callable[[], float]) -> FilePins:
    """By which keys the scientist knows others."""
    return FilePins(home() / "peers.json", now)


@asynccontextmanager
async def aconnect(
    url: str,
    *,
    identity: Identity | None = None,
    host: str = "127.0.0.1",
    address: str | None = None,
    listen: bool = True,
    pins: Pins | None = None,
) -> AsyncIterator[Grid]:
    """A grid, through the gateway at `url`, for as long as the block lasts.

    `identity` is the caller's key, the one in `home()` if not given. A coordinator in this process listens on
    `host`; `address` is how participants reach it, where that is another. Without `listen` they reach it through the
    gateway, and it has no port. `pins`: by which keys others are known; a file beside the key in `home()`, or for an
    `identity` that was given, what this program itself meets.
    """
    me = identity or my_identity()
    if pins is None:
        pins = MemoryPins(time.time) if identity else my_pins(time.time)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_http(Egress(allow_private=True)))
        calls = Calls(http, identity=me)
        (await stack.enter_async_context(open_relay(calls, me, time.time))).gateways = (url,)
        here = _Here(me, stack, Place(host, address, listen, url))
        yield Grid(GatewayDirectory(calls, url, pins), calls, me, embed=here, now=time.time, pins=pins, gateway=url)


def connect(
    url: str,
    *,
    identity: Identity | None = None,
    host: str = "127.0.0.1",
    address: str | None = None,
    listen: bool = True,
) -> PlainGrid:
    """The same for notebooks and scripts: calls wait, progress is shown. Close it, or let the program end."""
    loop, stack = Loop(), AsyncExitStack()
    opened = aconnect(url, identity=identity, host=host, address=address, listen=listen)
    return PlainGrid(loop, loop.run(stack.enter_async_context(opened)), stack)


class Place(NamedTuple):
    """Where a coordinator in this process answers: see `aconnect`."""

    host: str
    address: str | None
    listen: bool
    gateway: str


class _Here:
    """A coordinator in this process. A whole node is loaded for it, and only when a run needs one."""

    def __init__(self, identity: Identity, stack: AsyncExitStack, place: Place) -> None:
        self._identity, self._stack, self._place = identity, stack, place
        self._running: Coordinator | None = None
        self._starting = asyncio.Lock()

    async def __call__(self) -> Coordinator:
        async with self._starting:  # two runs at the same moment share one
            if self._running is None:
                self._running = await self._stack.enter_async_context(self._coordinator())
            return self._running

    def _coordinator(self) -> AbstractAsyncContextManager[Coordinator]:
        try:
            embedded = import_module("grid.cli.embedded")
        except ImportError:
            raise NoParticipants("name a coordinator, or install grid-daemon[node] to have one here") from None
        started: AbstractAsyncContextManager[Coordinator] = embedded.coordinator(self._identity, *self._place)
        return started
