"""Puts a node together from its parts: as a daemon of its own, or inside another program."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from aiohttp import web

from grid.accounts.house import open_house
from grid.associations.service import Associations
from grid.cli.fleets import Outside, open_fleets
from grid.cli.guests import open_guests
from grid.cli.network import Belonging
from grid.cli.reach import Reach, open_mailboxes, open_reach, reach_routes
from grid.cli.series import open_series
from grid.cli.task_parts import open_tasks, show_tasks
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.egress import Egress, open_http
from grid.client.relay import Relay
from grid.crypto.identity import Identity
from grid.learning.questions import LEAST_ROWS
from grid.node.access import Access
from grid.node.answering import AnsweredLetters, Answering
from grid.node.app import NodeParts, routes
from grid.node.audit import Audit
from grid.node.batches import Batches
from grid.node.catalogue import Catalogue
from grid.node.coordinator import MOST, Coordinator
from grid.node.dialects.flaas_rows import FlaasParts
from grid.node.dialects.flea_rows import FleaParts
from grid.node.evidence import Witness
from grid.node.gates import Gates
from grid.node.hosting import Hosts
from grid.node.keys import Prekeys
from grid.node.ledger import Ledger
from grid.node.means import Means
from grid.node.participant import Participant
from grid.node.peers import Peers
from grid.node.permissions import Permissions
from grid.node.presence import Presence
from grid.node.project_records import ProjectRecords
from grid.node.projects import Projects
from grid.node.records import RunRecords
from grid.node.requests import Requests
from grid.node.statistics import Statistics
from grid.node.tokens import Tokens
from grid.node.workers import Workers
from grid.protocol.directory import Directory
from grid.protocol.roles import NODE_ROLES
from grid.protocol.secure_sum import Terms
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.transport.app import Routes, create_app
from grid.transport.auth import Authenticator
from grid.transport.metrics import Metrics
from grid.transport.serve import running, serve
from grid.wire import node as wire
from grid.wire.relay import mailbox_address
from grid.worker.engine import GPU_SEATS, IsolationPolicy, LocalEngine, capabilities
from grid.worker.gpus import Device, Gpu, chosen, here
from grid.worker.port import Engine

log = logging.getLogger(__name__)

VERSION = version("grid-daemon")

PATIENCE = 600.0
"""Seconds that a job of a run waits for a worker at most; it goes sooner if its round is closed."""


@dataclass(frozen=True)
class NodeSettings:
    """What a node needs to know to start; `address` is how others reach it, its own if None.

    Without `listen` nobody can connect to it: its address is its mailbox at the first of its `gateways`, else at a
    relay of its network. `label` tells its mailboxes from others of the same key. With `dht` it is a peer of the
    `network` without a centre that those at `bootstrap` are part of, or begins one; it keeps mailboxes for others there
    if it has `relay_room` for their letters, in bytes, and lists programs that sign nothing if it `allow_unsigned`.
    `workers`: jobs at once; `worker_idle`: seconds after which an unused worker process ends (0: never).
    `sums_only`: no update of this node is seen but summed; with at least `sum_nodes`, `sum_colluding` of which collude.
    `dp_required`: the most that a run may cost each record, as epsilon; 0: runs need not be private.
    `least_rows`: rows behind a number that an analysis lets out.
    `tokens`: a file of bearer tokens for programs that can neither sign nor sign in (`node.tokens`).
    `push`: a file of accounts with push services, which wake devices (see docs/flaas.md).
    `device`: what trainings are computed on (`auto`, `cpu`, `cuda`); `gpu_seats`: jobs that share one GPU at most.
    """

    node_id: str
    data: Path
    host: str = "127.0.0.1"
    port: int = 5001
    address: str | None = None
    gateways: tuple[str, ...] = ()
    trust: tuple[str, ...] = ()
    allow_private: bool = True
    isolation: str = "require"
    workers: int = 2
    worker_idle: float = 600.0
    sums_only: bool = False
    dp_required: float = 0.0
    sum_nodes: int = 3
    sum_colluding: int = 0
    least_rows: int = LEAST_ROWS
    warm: bool = False
    device: str = "auto"
    gpu_seats: int = GPU_SEATS
    listen: bool = True
    label: str = ""
    dht: bool = False
    bootstrap: tuple[str, ...] = ()
    relay_room: int = 0
    allow_unsigned: bool = False
    tokens: Path | None = None
    push: Path | None = None
    network: Belonging = Belonging()  # noqa: RUF009 - it never changes


class OpenNode:
    """A node that is put together, and not yet answering.

    `address` is where others reach it, `here` where this machine does, `socket` where its own relay does.
    """

    app: web.Application
    parts: NodeParts
    reach: Reach

    def __init__(self, settings: NodeSettings, means: Means, events: EventLog, relay: Relay, socket: Path) -> None:
        self.settings, self.means, self.events = settings, means, events
        self.relay, self.socket = relay, socket
        self.address = self.here = ""

    def answers(self, address: str) -> None:
        """It answers here from now on, and reads its letters."""
        settings = self.settings
        self.here = address
        for gateway in settings.gateways:
            self.relay.reads(gateway)
        if settings.listen:
            self.reached_at(address)
        elif settings.gateways:
            self.reached_at(mailbox_address(settings.gateways[0], self.relay.name))

    def reached_at(self, address: str) -> None:
        """Others reach it here from now on. Once they do, what was interrupted goes on."""
        before, self.address = self.address, self.settings.address or address
        if not before:
            self.parts.coordinator.go_on()
            self.parts.projects.go_on()

    async def readable(self) -> None:
        """Wait until relays take letters for it. Raises Unreachable if it has no port, and none does."""
        if not self.settings.listen:
            self.reached_at(await self.reach.berth.find())
        for gateway in self.settings.gateways:
            await self.relay.reads(gateway).usable()


async def run_node(
    settings: NodeSettings, ready: Callable[[str], None], local: Callable[[str], None] = lambda _: None
) -> None:
    """Run a node until a signal ends it. `ready` gets its address once it answers; `local` that for this machine.

    On SIGTERM it leaves its directories, ends its long-polls and drains.
    """
    identity = Identity.load_or_create(settings.data / "identity.key")
    owner = Identity.load_or_create(settings.data / "owner.key")
    async with open_node(settings, identity, owners=(owner.id,)) as node, Chores() as chores:
        listing = Listing(node, chores, ready, local)
        host = settings.host if settings.listen else None
        await serve(
            node.app, host=host, port=settings.port, ready=listing.begin, on_drain=listing.leave, local=node.socket
        )


class Listing:
    """Has a node reached and listed from when it answers until it leaves.

    `ready` gets its address once it is reached there; `local` that for this machine. `chores` own what runs meanwhile.
    """

    def __init__(
        self,
        node: OpenNode,
        chores: Chores,
        ready: Callable[[str], None],
        local: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._node, self._chores, self._ready, self._local = node, chores, ready, local
        self._presence = _presence(node)
        self._listed = False

    def begin(self, address: str) -> None:
        """The node answers here."""
        node, settings, chores = self._node, self._node.settings, self._chores
        node.answers(address)
        self._local(node.here)
        chores.begin(node.means.prekeys.keep())
        if node.reach.network is not None:
            chores.begin(node.reach.network.upkeep.run())
        if settings.warm and isinstance(node.means.trainer, LocalEngine):
            chores.begin(node.means.trainer.warm())
        if settings.listen or settings.gateways:
            self._reached(address if settings.listen else node.address)
        if not settings.listen:
            chores.begin(node.reach.berth.keep(self._reached, node.address))

    async def leave(self) -> None:
        """Let go of those who listen; say good-bye."""
        self._node.events.close()
        if self._node.reach.mailboxes is not None:
            self._node.reach.mailboxes.close()
        await self._presence.leave()

    def _reached(self, address: str) -> None:
        self._node.reached_at(address)
        if self._listed:
            self._presence.advertise()
            return
        self._listed = True
        self._chores.begin(self._presence.keep())
        self._ready(address)


Engines = Callable[[NodeSettings, str], Engine]
"""What makes the engine whose workers have "torch" (or "linear") or "numpy" loaded."""


@asynccontextmanager
async def embedded_node(
    settings: NodeSettings, identity: Identity, *, engines: Engines | None = None
) -> AsyncIterator[OpenNode]:
    """A node inside this process that answers while the block lasts; its owner is `identity`.

    No gateway lists it; in a network without a centre, if it has no port, others are told by its key where it reads.
    """
    async with (
        open_node(settings, identity, owners=(identity.id,), engines=engines) as node,
        Chores() as chores,
        running(
            node.app, host=settings.host if settings.listen else None, port=settings.port, local=node.socket
        ) as address,
    ):
        node.answers(address)
        await node.readable()
        presence = _follow(node, chores)
        if isinstance(node.means.folder, LocalEngine):  # it was made for a run, which will soon have something to sum
            chores.begin(node.means.folder.warm())
        try:
            yield node
        finally:
            await node.parts.coordinator.stop_all("the program that drove it has ended")
            node.events.close()
            if presence is not None:
                await presence.leave()


def _follow(node: OpenNode, chores: Chores) -> Presence | None:
    """Have a node without a port that is listed nowhere found where it reads, if it is in a network."""
    if node.settings.listen:
        return None
    presence = None if node.reach.network is None else _presence(node, [node.reach.network.directory])

    def moved(address: str) -> None:
        node.reached_at(address)
        if presence is not None:
            presence.advertise()

    chores.begin(node.reach.berth.keep(moved, node.address))
    if presence is not None and node.reach.network is not None:
        chores.begin(presence.keep())
        chores.begin(node.reach.network.upkeep.run())
    return presence


@asynccontextmanager
async def open_node(
    settings: NodeSettings, identity: Identity, *, owners: tuple[str, ...], engines: Engines | None = None
) -> AsyncIterator[OpenNode]:
    """All parts of a node whose state is in `settings.data`; `engines`: processes of this machine if not given."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(settings.data / "node.db", "node"))
        egress = Egress(settings.allow_private)
        http = await stack.enter_async_context(open_http(egress))
        blobs = Blobs(settings.data / "blobs")
        house = open_house(database, identity, NODE_ROLES, time.time)
        access = Access(database, time.time, owners, house.book.standing)
        catalogue = Catalogue(database, blobs, time.time)
        for key in settings.trust:
            await access.trust(key)
        events = EventLog(database)
        trainer, folder = [(engines or local_engine)(settings, preload) for preload in (training_preload(), "numpy")]
        stack.push_async_callback(trainer.close)
        stack.push_async_callback(folder.close)
        ledger = Ledger(database, time.time)
        permissions = Permissions(database, catalogue)
        requests = Requests(
            database,
            events,
            identity,
            time.time,
            access=access,
            book=house.book,
            permissions=permissions,
            ledger=ledger,
            witness=Witness(database, catalogue, ledger, blobs, f"grid-daemon {VERSION}"),
        )
        calls = Calls(http, identity=identity)
        associations = Associations(
            database,
            identity,
            "node",
            settings.node_id,
            lambda: node.address,
            calls,
            egress,
            time.time,
        )
        means = Means(
            identity=identity,
            node_id=settings.node_id,
            calls=calls,
            egress=egress,
            access=access,
            house=house,
            associations=associations,
            peers=Peers(database, time.time, events),
            catalogue=catalogue,
            permissions=permissions,
            requests=requests,
            gates=Gates(database, catalogue, access, requests, identity.id),
            prekeys=Prekeys(database, identity, time.time),
            records=RunRecords(database, events, time.time),
            ledger=ledger,
            trainer=trainer,
            folder=folder,
            runs=settings.data / "runs",
            now=time.time,
            terms=Terms(settings.sum_nodes, settings.sum_colluding),
            sums_only=settings.sums_only,
            dp_required=settings.dp_required,
            least_rows=settings.least_rows,
        )
        socket = Path(stack.enter_context(TemporaryDirectory(prefix="grid-"))) / "node"
        tokens = Tokens(settings.tokens, house.book.standing_named)
        await tokens.reload()
        auth = _authenticator(means, tokens)
        answering = await stack.enter_async_context(Answering(socket, auth))
        chores = await stack.enter_async_context(Chores())
        means.calls.relay = relay = Relay(
            means.calls, identity, means.prekeys, time.time, chores.begin, label=settings.label
        )
        relay.gateways = settings.gateways
        relay.serves(answering, AnsweredLetters(database, time.time))
        node = OpenNode(settings, means, events, relay, socket)
        node.reach = await _reach(node, database, chores, stack)
        flea = await open_tasks(means, database, events, tokens, chores.begin, settings.data, settings.address)
        flaas = open_fleets(means, events, flea, chores.begin, settings.data, Outside(http, settings.push))
        await _wire(node, blobs, auth, chores, ProjectRecords(database, events, time.time), flea, flaas)
        yield node


async def _reach(node: OpenNode, database: Database, chores: Chores, stack: AsyncExitStack) -> Reach:
    """How a node is reached, and what it does for those who are not."""
    settings = node.settings
    mailboxes = None
    if settings.relay_room:
        mailboxes = await open_mailboxes(database, node.events, settings.data, settings.relay_room)
        chores.begin(mailboxes.tend())
    guests = None
    if settings.dht and settings.allow_unsigned:
        guests = await stack.enter_async_context(open_guests(node.means.egress, node.means.now))
    return open_reach(
        node.means,
        node.relay,
        settings.data,
        settings.gateways,
        settings.bootstrap if settings.dht else None,
        belonging=settings.network,
        listens=settings.listen,
        mailboxes=mailboxes,
        guests=guests,
    )


async def _wire(
    node: OpenNode,
    blobs: Blobs,
    auth: Authenticator,
    chores: Chores,
    projects: ProjectRecords,
    flea: FleaParts,
    flaas: FlaasParts,
) -> None:
    """Give a node its services and its application; its runs are taken up."""
    means, settings = node.means, node.settings
    coordinator = Coordinator(means, blobs, lambda: node.address, chores.begin)
    await coordinator.resume()
    participant = Participant(means, blobs, chores.begin)
    await participant.resume()
    chores.begin(participant.releasing.keep())
    chores.begin(means.requests.keep())
    batches = Batches(means, projects, coordinator, chores.begin, settings.data / "projects")
    started = means.now()
    statistics = Statistics(
        means.house.book.database,
        means.catalogue,
        means.house,
        means.ledger,
        means.trainer,
        lambda: _running(coordinator, participant),
        means.now,
    )
    node.parts = NodeParts(
        identity=means.identity,
        node_id=means.node_id,
        version=VERSION,
        auth=auth,
        access=means.access,
        house=means.house,
        associations=means.associations,
        statistics=statistics,
        workers=Workers(means.house.book.database, means.trainer),
        peers=means.peers,
        catalogue=means.catalogue,
        permissions=means.permissions,
        requests=means.requests,
        gates=means.gates,
        prekeys=means.prekeys,
        coordinator=coordinator,
        participant=participant,
        ledger=means.ledger,
        flea=flea,
        flaas=flaas,
        hosts=Hosts(means.house.book.database, flea.models, means),
        pygrid=await open_series(means, flea, chores.begin, settings.data),
        projects=Projects(means, blobs, projects, batches, lambda: node.address),
        status=lambda: _status(settings, means, coordinator, participant, started),
        busy=lambda: _is_busy(means.trainer),
        audits=tuple(_audit(means, gateway) for gateway in settings.gateways),
        now=means.now,
    )
    metrics = Metrics()
    metrics.gauge("grid_datasets", "Datasets of this node", lambda: len(means.catalogue.list()))
    metrics.gauge("grid_runs_coordinated", "Runs that this node drives", lambda: sum(coordinator.running().values()))
    metrics.gauge("grid_runs_joined", "Runs that this node takes part in", lambda: sum(participant.running().values()))
    show_tasks(metrics, flea)
    answered = with_others(routes(node.parts), reach_routes(node.reach, means, metrics))
    node.app = create_app(answered, auth=auth, metrics=metrics, about=f"Node {means.node_id}")


def _authenticator(means: Means, tokens: Tokens) -> Authenticator:
    house, access = means.house, means.access
    return Authenticator(
        means.identity,
        means.now,
        is_owner=access.is_owner,
        owner_keys=access.owner_keys,
        accounts=house.logins.check,
        tokens=lambda token: house.logins.bearer(token) or tokens.bearer(token),
        standing=house.book.standing,
        refuse=means.peers.refuse_revoked,
    )


def with_others(own: Routes, others: Routes) -> Routes:
    """Endpoints, and others that take the place of those on the same paths."""
    taken = {(endpoint.method, endpoint.path) for endpoint in others}
    return {**{each: own[each] for each in own if (each.method, each.path) not in taken}, **others}


def _audit(means: Means, gateway: str) -> Audit:
    directory = GatewayDirectory(means.calls, gateway)
    return Audit(means.calls, directory, means.peers, means.node_id, means.identity.id)


def _presence(node: OpenNode, only: Sequence[Directory] | None = None) -> Presence:
    """Where a node is listed: everywhere it is to be, or in these directories `only`."""
    means = node.means
    audits: dict[Directory, Audit] = {audit.directory: audit for audit in node.parts.audits}
    directories: list[Directory] = [*audits]
    if node.reach.network is not None:
        directories.append(node.reach.network.directory)
    directories = directories if only is None else [*only]

    async def audit(directory: Directory) -> None:
        if directory in audits:  # a network without a centre keeps no log
            await audits[directory].tend()

    presence = Presence(
        means.identity,
        means.node_id,
        lambda: node.address,
        directories,
        means.catalogue,
        means.prekeys,
        now=means.now,
        busy=node.parts.busy,
        audit=audit,
    )
    means.catalogue.changed = presence.advertise
    return presence


def training_preload() -> str:
    """What workers that train load: torch, or `linear`, which is numpy for linear plans, where torch is missing."""
    return "linear" if find_spec("torch") is None else "torch"


def _is_busy(engine: Engine) -> bool:
    found = engine.status()
    return bool(found["taken"] >= found["seats"])


def gpus_for(device: str) -> tuple[Gpu, ...]:
    """The GPUs of this machine that trainings are to use.

    Raises:
        GpuMissing: they are demanded and there is none.
    """
    return chosen(Device(device), here(os.environ))


def local_engine(settings: NodeSettings, preload: str) -> LocalEngine:
    """An engine of processes on this machine, whose workers have `preload` loaded: see `worker.jobs`.

    Raises:
        GpuMissing: trainings are to be computed on a GPU, and there is none.
    """
    on_gpus: dict[str, Any] = {}
    if preload != "numpy":
        gpus, device = gpus_for(settings.device), Device(settings.device)
        why = "told so" if device is Device.CPU else here(os.environ).why
        log.info("trainings are computed on %s", ", ".join(map(str, gpus)) or f"the processor: {why}")
        on_gpus = {"gpus": gpus, "gpu_seats": settings.gpu_seats, "device": device}
    scratch = settings.data / "scratch" / preload
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    return LocalEngine(
        preload,
        MOST if preload == "numpy" else settings.workers,
        scratch,
        policy=IsolationPolicy(settings.isolation),
        idle=settings.worker_idle or None,
        patience=PATIENCE,
        **on_gpus,
    )


def _running(coordinator: Coordinator, participant: Participant) -> dict[str, int]:
    driven = {f"coordinating {state}": count for state, count in coordinator.running().items()}
    return driven | {f"taking part {state}": count for state, count in participant.running().items()}


def _status(
    settings: NodeSettings, means: Means, coordinator: Coordinator, participant: Participant, started: float
) -> wire.Status:
    found = capabilities()
    engine = means.trainer.status()
    return wire.Status(
        status="busy" if _is_busy(means.trainer) else "online",
        node_id=means.node_id,
        version=VERSION,
        started=started,
        datasets=len(means.catalogue.list()),
        runs=_running(coordinator, participant),
        isolation=wire.Isolation(
            landlock=found.landlock,
            seccomp=found.seccomp,
            policy=settings.isolation,  # type: ignore[arg-type]
            sufficient=found.complete,
        ),
        engine=engine,
        alarms=means.peers.alarms(),
    )


class Chores:
    """Owns what runs beside the requests; when the block ends, so does all of it."""

    async def __aenter__(self) -> Chores:
        self._tasks: set[asyncio.Task[None]] = set()
        return self

    def begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start something. Its failure is logged and ends nothing else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def __aexit__(self, *_: object) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a chore of this node failed: %s", error, exc_info=error)
