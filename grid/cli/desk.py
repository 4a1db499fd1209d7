"""What a node's owner does at it: through its daemon if one runs, so that it advertises at once, else on its files."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import click
from aiohttp import ClientSession

from grid.cli.config import default_data
from grid.cli.daemon import UNIX, daemon_of
from grid.client.calls import Calls
from grid.client.datasets import all_datasets
from grid.client.egress import LOCAL, Egress, open_http, open_local
from grid.crypto.identity import Identity
from grid.node.access import Access
from grid.node.catalogue import Catalogue
from grid.node.peers import Peers
from grid.node.records import RunRecords
from grid.protocol.permission import Visibility
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.wire.endpoint import Endpoint, Gives, Takes
from grid.wire.node import (
    ADD_DATASET,
    DISTRUST,
    FORGET_PEER,
    PART_EVENTS,
    PARTS,
    PEERS,
    PIN_PEER,
    REMOVE_DATASET,
    TRUST,
    TRUSTED,
    DatasetInfo,
    ForgetPeer,
    KnownPeer,
    NewDataset,
    Part,
    PinPeer,
    Trust,
)
from grid.wire.problems import Unreachable
from grid.wire.runs import After, Event

DATA = default_data("node")

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=DATA,
    envvar="GRID_DATA",
    show_default=True,
    help="Where the node's state and keys are kept.",
)
"""`--data DIR`, for commands on a node."""


class Desk(Protocol):
    """The owner's side of a node."""

    async def datasets(self) -> tuple[DatasetInfo, ...]:
        """All datasets."""

    async def add(self, info: DatasetInfo, digest: str, visibility: Visibility = "private") -> DatasetInfo:
        """Register a file of tensors that lies in the store."""

    async def remove(self, name: str) -> None:
        """Remove a dataset and its file."""

    async def trusted(self) -> tuple[Trust, ...]:
        """Whose keys may train."""

    async def trust(self, public_key: str, name: str) -> None:
        """Let the holder of a key train."""

    async def distrust(self, public_key: str) -> None:
        """No longer let the holder of a key train."""

    async def peers(self) -> tuple[KnownPeer, ...]:
        """Whom the node has met."""

    async def pin(self, name: str, public_key: str) -> None:
        """Know a peer by a key that was compared."""

    async def forget(self, name: str) -> None:
        """Meet a peer anew. Raises NotFound."""

    async def parts(self) -> tuple[Part, ...]:
        """The runs that the node takes part in."""

    async def part_events(self, run: str, after: After) -> tuple[Event, ...]:
        """What it noted of its part in a run. Raises RunNotFound."""


class Files:
    """The desk of a node whose daemon does not run."""

    def __init__(self, catalogue: Catalogue, access: Access, peers: Peers, records: RunRecords) -> None:
        self._catalogue, self._access, self._records = catalogue, access, records
        self.peers, self.pin, self.forget = peers.known, peers.pin, peers.forget
        self.add, self.remove = catalogue.add, catalogue.remove
        self.trust, self.distrust = access.trust, access.distrust

    async def datasets(self) -> tuple[DatasetInfo, ...]:
        """All datasets."""
        return self._catalogue.list()

    async def trusted(self) -> tuple[Trust, ...]:
        """Whose keys may train."""
        return self._access.trusted()

    async def parts(self) -> tuple[Part, ...]:
        """The runs that the node takes part in."""
        return tuple(await self._records.parts({}))

    async def part_events(self, run: str, after: After) -> tuple[Event, ...]:
        """What it noted of its part in a run; while it does not run, nothing comes to that."""
        return (await self._records.part_events(run, After(after.after))).events


class Daemon:
    """The desk of a node whose daemon runs: it is asked with the owner's key, and must prove its own."""

    def __init__(self, calls: Calls, address: str, peer: bytes) -> None:
        self._calls, self._address, self._peer = calls, address, peer

    async def datasets(self) -> tuple[DatasetInfo, ...]:
        """All datasets."""
        return tuple(await all_datasets(self._calls, self._address, self._peer))

    async def add(self, info: DatasetInfo, digest: str, visibility: Visibility = "private") -> DatasetInfo:
        """Register a file of tensors that lies in the store."""
        new = NewDataset(info, digest, visibility)
        return await self._calls.call(self._address, ADD_DATASET, new, peer=self._peer)

    async def remove(self, name: str) -> None:
        """Remove a dataset and its file."""
        await self._calls.call(self._address, REMOVE_DATASET, peer=self._peer, name=name)

    async def trusted(self) -> tuple[Trust, ...]:
        """Whose keys may train."""
        return (await self._calls.call(self._address, TRUSTED, peer=self._peer)).trusted

    async def trust(self, public_key: str, name: str) -> None:
        """Let the holder of a key train."""
        await self._calls.call(self._address, TRUST, Trust(public_key, name), peer=self._peer)

    async def distrust(self, public_key: str) -> None:
        """No longer let the holder of a key train."""
        await self._calls.call(self._address, DISTRUST, peer=self._peer, public_key=public_key)

    async def peers(self) -> tuple[KnownPeer, ...]:
        """Whom the node has met."""
        return (await self._calls.call(self._address, PEERS, peer=self._peer)).peers

    async def pin(self, name: str, public_key: str) -> None:
        """Know a peer by a key that was compared."""
        await self._calls.call(self._address, PIN_PEER, PinPeer(name, public_key), peer=self._peer)

    async def forget(self, name: str) -> None:
        """Meet a peer anew."""
        await self._calls.call(self._address, FORGET_PEER, ForgetPeer(name), peer=self._peer)

    async def parts(self) -> tuple[Part, ...]:
        """The runs that the node takes part in."""
        return (await self._calls.call(self._address, PARTS, peer=self._peer)).parts

    async def part_events(self, run: str, after: After) -> tuple[Event, ...]:
        """What it noted of its part in a run."""
        return (await self._calls.call(self._address, PART_EVENTS, query=after, peer=self._peer, run=run)).events


class Office:
    """A node whose daemon runs, as its owner calls it."""

    def __init__(self, calls: Calls, owner: Identity, address: str, peer: bytes) -> None:
        self.calls, self.owner, self.address, self.peer = calls, owner, address, peer

    async def ask(
        self, endpoint: Endpoint[Takes, Gives], message: Takes | None = None, *, query: Any = None, **path: Any
    ) -> Gives:
        """What the node answers its owner."""
        return await self.calls.call(self.address, endpoint, message, query=query, peer=self.peer, **path)


@asynccontextmanager
async def open_office(data: Path) -> AsyncIterator[Office]:
    """The node whose state is in `data`, which has to run: other nodes are to hear from it.

    Raises:
        Unreachable: it does not.
    """
    with daemon_of(data) as running:
        if running is None:
            raise Unreachable(f"the node of {data} does not run; start it with `grid-node start`")
        owner, node = Identity.load(data / "owner.key"), Identity.load(data / "identity.key")
        http, address = way_to(running.address)
        async with http:
            yield Office(Calls(http, identity=owner), owner, address, node.public)


@asynccontextmanager
async def open_desk(data: Path) -> AsyncIterator[Desk]:
    """The desk of the node whose state is in `data`; no daemon starts on it while the block lasts."""
    with daemon_of(data) as running:
        if running is None:
            async with Database(data / "node.db", "node") as database:
                records = RunRecords(database, EventLog(database), time.time)
                catalogue = Catalogue(database, open_blobs(data), time.time)
                yield Files(catalogue, Access(database, time.time), Peers(database, time.time), records)
        else:
            owner, node = Identity.load(data / "owner.key"), Identity.load(data / "identity.key")
            http, address = way_to(running.address)
            async with http:
                yield Daemon(Calls(http, identity=owner), address, node.public)


def way_to(address: str) -> tuple[ClientSession, str]:
    """Connections to a daemon of this machine, and the address to use on them."""
    if address.startswith(UNIX):
        return open_local(address.removeprefix(UNIX)), LOCAL
    return open_http(Egress(allow_private=True)), address


def open_blobs(data: Path) -> Blobs:
    """Where a node keeps its files of tensors."""
    return Blobs(data / "blobs")
