"""`grid.connect` and `grid.aio.connect`: from the address of a gateway to a grid."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NamedTuple, Protocol

from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.egress import Egress, open_http
from grid.client.grid import Coordinator, Grid
from grid.client.pins import FilePins, MemoryPins, Pins
from grid.client.plain import Loop, PlainGrid
from grid.client.preferring import Preferring
from grid.client.writing import open_relay
from grid.crypto.identity import Identity
from grid.protocol.directory import Directory
from grid.wire.problems import NoParticipants, Unreachable

NETWORK = "dht+"
"""What an address begins with that is a peer's of a network without a centre, and no gateway's."""


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
    url: str | Sequence[str],
    *,
    identity: Identity | None = None,
    host: str = "127.0.0.1",
    address: str | None = None,
    listen: bool = True,
    pins: Pins | None = None,
) -> AsyncIterator[Grid]:
    """A grid, through the gateway at `url`, for as long as the block lasts.

    `dht+http://HOST:PORT` is a peer of a network without a centre, `dht+http://HOST:PORT#NAME` of the one of that name.
    Of several, the first is asked first, the next one where it does not answer or knows nobody.

    `identity` is the caller's key, the one in `home()` if not given. A coordinator in this process listens on
    `host`; `address` is how participants reach it, where that is another. Without `listen` they reach it through the
    gateway, or a relay of the network, and it has no port. `pins`: by which keys others are known; a file beside the
    key in `home()`, or for an `identity` that was given, what this program itself meets.
    """
    me = identity or my_identity()
    if pins is None:
        pins = MemoryPins(time.time) if identity else my_pins(time.time)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(open_http(Egress(allow_private=True)))
        calls = Calls(http, identity=me)
        urls = (url,) if isinstance(url, str) else tuple(url)
        gateways = tuple(each for each in urls if not each.startswith(NETWORK))
        relay = await stack.enter_async_context(open_relay(calls, me, time.time))
        relay.gateways, networks = gateways, _networks(urls, calls, me)
        relay.finds = partial(_found, networks.values()) if networks else None
        here = _Here(me, stack, Place(host, address, listen, gateways, *_first_network(urls)))
        directory = _directory(urls, calls, networks, pins)
        yield Grid(
            directory, calls, me, embed=here, now=time.time, pins=pins, gateway=gateways[0] if gateways else "dht"
        )


class Network(Directory, Protocol):
    """A directory without a centre, which knows where the holder of a key is."""

    async def address_of(self, public: bytes) -> str | None:
        """Where the peer with this key answers, as it says itself."""


def _peers(urls: Sequence[str]) -> dict[str, list[str]]:
    """The addresses of peers among `urls`, by the name of their network."""
    peers = dict[str, list[str]]()
    for url in urls:
        if url.startswith(NETWORK):
            address, _, name = url.removeprefix(NETWORK).partition("#")
            peers.setdefault(name, []).append(address)
    return peers


def _first_network(urls: Sequence[str]) -> tuple[tuple[str, ...], str]:
    return next(((tuple(peers), name) for name, peers in _peers(urls).items()), ((), ""))


def _networks(urls: Sequence[str], calls: Calls, me: Identity) -> dict[str, Network]:
    return {name: _network(me, calls, peers, name) for name, peers in _peers(urls).items()}


def _directory(urls: Sequence[str], calls: Calls, networks: Mapping[str, Network], pins: Pins) -> Directory:
    """The directories at some addresses, in their order; all peers of one network are one directory."""
    found = dict[str, Directory]()
    for url in urls:
        name = url.partition("#")[2]
        if url.startswith(NETWORK):
            found[NETWORK + name] = networks[name]
        else:
            found[url] = GatewayDirectory(calls, url, pins)
    several = list(found.values())
    return several[0] if len(several) == 1 else Preferring(several, time.time)


def _network(me: Identity, calls: Calls, peers: Sequence[str], name: str) -> Network:
    try:
        network = import_module("grid.cli.network")
    except ImportError:
        raise Unreachable("a network without a centre needs grid-daemon[dht]") from None
    searching: Network = network.searching(me, calls, Egress(allow_private=True), peers, name)
    return searching


async def _found(networks: Collection[Network], public: bytes) -> str | None:
    """Where the holder of a key answers, as the first network says that knows it."""
    for network in networks:
        if address := await network.address_of(public):
            return address
    return None


def connect(
    url: str | Sequence[str],
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
    gateways: tuple[str, ...]
    peers: tuple[str, ...]
    network: str


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
