"""A grid in one process: nodes on free ports whose workers are a few lines of numpy, and nodes played by hand.

`a_node` is the node daemon in full, but for its workers: `Learner` says what they learn. A `Puppet` is a
participant that does nothing by itself, so that a test can make it late, dishonest or broken.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiohttp import ClientSession, web
from numpy.typing import NDArray

from grid.cli.assemble import NodeSettings, OpenNode, open_node
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.client.grid import Grid
from grid.client.payload import gather, once, read_prekey
from grid.client.run import AsyncRun
from grid.crypto.envelope import Context, Header
from grid.crypto.identity import Identity, public_from_id
from grid.crypto.prekeys import Prekey, publish
from grid.crypto.sealing import Opener, seal_bytes
from grid.learning import arrays, numpy_training
from grid.learning.masked import Vectors
from grid.learning.masking import mask
from grid.learning.plan import Plan
from grid.learning.said import Own
from grid.learning.strategy import PRESETS, read_strategy, travelling
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.node.collect import REPORT as REPORT_ENTRY
from grid.protocol.documents import sign_document
from grid.transport import body
from grid.transport.app import create_app
from grid.transport.auth import Authenticator
from grid.transport.hello import identity_handler, session_handler
from grid.transport.metrics import Metrics
from grid.transport.serve import running
from grid.wire.directory import NODE_RECORD, Found, Join, Joined, Leave, Member, NodeRecord, Renew, Renewed, Search
from grid.wire.node import DatasetInfo, TensorInfo
from grid.wire.problems import GridError, NotAMember, NotFound, WorkerLost
from grid.wire.runs import (
    BUNDLE,
    INVITE,
    MODEL,
    REPORT,
    RUN_EVENTS,
    START_RUN,
    TASK,
    UPDATE,
    After,
    Counted,
    Events,
    Fetch,
    Invite,
    Invited,
    Peer,
    Quorum,
    Report,
    StartRun,
    Task,
)
from grid.wire.session import IDENTITY, SESSION
from grid.worker import analysis_job, fold_job
from grid.worker.evaluation_job import evaluation_with
from grid.worker.port import Engine, Job, Limits, Progress, Work
from grid.worker.predict_job import predicting_with
from grid.worker.roster import Worker
from grid.worker.seat import Desk
from grid.worker.train_job import Kit

Numbers = NDArray[np.float32]
SCIENTIST = Identity.from_seed(b"scientist".ljust(32))
TAGS = ("#pulse",)
MASKED = msgspec.to_builtins(travelling(PRESETS["fedavg"], upload="masked"))
"""The strategy of a task whose updates are only seen summed."""


def plan_of(width: int = 3, **settings: Any) -> Plan:
    """A linear model of `width` + 1 numbers."""
    return Plan.linear(width, 1, loss="mse", **settings)


def numbers(data: bytes | bytearray | memoryview) -> Numbers:
    """A model's data section as numbers; those of `plan_of` are all float32."""
    return np.frombuffer(bytes(data), np.float32)


# --- workers ------------------------------------------------------------------------------------


@dataclass
class Learner:
    """What the workers of one node do: go half of the way to `goal`, from `examples` examples.

    A fit says `began` and waits for `may_go_on`; `refuses` is raised where a plan is loaded, `stumbles` in a fit.
    `deaths`: so many workers are killed in a fit, one after the other.
    """

    goal: float = 0.0
    examples: int = 10
    held_out: int = 5
    refuses: GridError | None = None
    stumbles: GridError | None = None
    deaths: int = 0
    began: asyncio.Event = field(default_factory=asyncio.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)
    opened: int = 0
    closed: int = 0

    def __post_init__(self) -> None:
        self.may_go_on.set()

    def prepare(self) -> dict[str, Any]:
        """Load the plan."""
        if self.refuses:
            raise self.refuses
        return {"examples": self.examples, "held_out": self.held_out}

    async def fit(self, inbox: memoryview, outbox: memoryview) -> dict[str, Any]:
        """Train."""
        self.began.set()
        await self.may_go_on.wait()
        if self.deaths:
            self.deaths -= 1
            raise WorkerLost("the worker was killed")
        if self.stumbles:
            raise self.stumbles
        outbox[:] = ((numbers(inbox) + np.float32(self.goal)) / 2).tobytes()
        return {"examples": self.examples, "metrics": {"loss": 1.0}, "numbers": {"loss": 1.0}}

    def evaluate(self, inbox: memoryview) -> dict[str, Any]:
        """Measure: how far the model is from the goal."""
        distance = float(np.abs(numbers(inbox) - self.goal).mean())
        return {"examples": self.held_out, "metrics": {"loss": distance} if self.held_out else {}}


class FakeSeat:
    """A seat in this process. It can be made to break, as a killed worker does."""

    def __init__(self, engine: FakeEngine, work: Work) -> None:
        self._engine = engine
        size = work.model_bytes
        self.inbox, self.outbox = memoryview(bytearray(size)), memoryview(bytearray(size))
        self.state = memoryview(bytearray(work.state_bytes))
        self.broken = self.closed = False
        self.device = "cpu"

    async def call(self, verb: str, on_progress: Progress | None = None, **arguments: Any) -> dict[str, Any]:
        if self.broken or self.closed:
            raise WorkerLost("ended by signal 9")
        await asyncio.sleep(0)
        try:
            if verb == "fit" and on_progress:
                on_progress({"step": 1, "steps": 1, "epoch": 1, "loss": 1.0})
            return await self.answer(verb, arguments)
        except asyncio.CancelledError:
            self.broken = True
            raise

    async def answer(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    async def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._engine.taken -= 1
            self._engine.learner.closed += 1


class TrainSeat(FakeSeat):
    """Holds a plan. Masks are put on with the worker's own code."""

    def __init__(self, engine: FakeEngine, work: Work) -> None:
        super().__init__(engine, work)
        strategy = read_strategy(work.arguments["strategy"])
        self._masked = (strategy, Plan.from_bundle(work.files["bundle"].read_bytes())) if strategy.masked else None

    async def answer(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        learner = self._engine.learner
        if verb == "prepare":
            return learner.prepare()
        if self._masked is None:
            return await learner.fit(self.inbox, self.outbox) if verb == "fit" else learner.evaluate(self.inbox)
        strategy, plan = self._masked
        before, after = self.inbox[: plan.layout.size], self.outbox[: plan.layout.size]
        base = {"base": hashlib.sha256(before).hexdigest()}
        if verb == "fit":
            return await learner.fit(before, after) | base
        if verb == "mask":
            self._mask(
                Vectors(strategy, plan.layout, (), 1, arguments["parties"], arguments["clip"]), before, after, arguments
            )
        return base if verb in {"receive", "mask"} else learner.evaluate(before)

    def _mask(self, vectors: Vectors, before: memoryview, after: memoryview, told: Mapping[str, Any]) -> None:
        vector = vectors.vector(before, after, Own(*told["own"]), np.random.default_rng(0), told["noise"])
        mask(vector, told["added"], told["subtracted"])
        self.outbox[: vector.nbytes] = vector.tobytes()


KIT = Kit(numpy_training.Trainer, arrays.views, numpy_training.finish, numpy_training.predict)


class JobSeat(FakeSeat):
    """Sums, or answers a question, with the worker's own code."""

    JOBS: Mapping[str, Any] = {
        "fold": fold_job.fold,
        "analyse": analysis_job.analyse,
        "evaluate": evaluation_with(KIT),
        "predict": predicting_with(KIT),
    }

    def __init__(self, engine: FakeEngine, work: Work) -> None:
        super().__init__(engine, work)
        files = {name: memoryview(path.read_bytes()) for name, path in work.files.items()}
        desk = Desk(files, self.inbox, self.outbox, Limits(), lambda _: None, self.state)
        self._verbs = self.JOBS[work.job](desk, **work.arguments)

    async def answer(self, verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return self._verbs[verb](**arguments)


class FakeEngine:
    """Opens seats in this process; keeps those it opened for tests to break."""

    def __init__(self, learner: Learner, workers: int = 2) -> None:
        self.learner, self.seats_here, self.taken, self.waiting = learner, workers, 0, 0
        self.seats: list[FakeSeat] = []

    async def open(self, job: Job) -> FakeSeat:
        work = job.work()
        seat: FakeSeat
        if work.job == "train":
            self.learner.opened += 1
            seat = TrainSeat(self, work)
        else:
            seat = JobSeat(self, work)
        self.taken += 1
        self.seats.append(seat)
        return seat

    def status(self) -> dict[str, Any]:
        return {"taken": self.taken, "seats": self.seats_here, "waiting": self.waiting}

    def workers(self) -> list[Worker]:
        return [Worker(number + 1) for number in range(self.seats_here)]

    def resize(self, seats: int) -> None:
        self.seats_here = seats

    def dismiss(self, number: int) -> None:
        if not 1 <= number <= self.seats_here:
            raise NotFound(f"there is no worker {number}")

    async def close(self) -> None:
        for seat in self.seats:
            await seat.close()


# --- nodes --------------------------------------------------------------------------------------


@dataclass
class ANode:
    """A node that answers at `address`; `stop` takes it off the air at once."""

    open: OpenNode
    identity: Identity
    address: str
    folder: Path
    learner: Learner
    stack: AsyncExitStack

    @property
    def id(self) -> str:
        return self.open.means.node_id

    @property
    def peer(self) -> Peer:
        return Peer(self.id, self.address, self.identity.id)

    @property
    def folder_engine(self) -> FakeEngine:
        engine = self.open.means.folder
        assert isinstance(engine, FakeEngine)
        return engine

    def files(self) -> list[str]:
        """The files of runs that are here, and drafts; not the datasets."""
        kept = {self.open.means.catalogue.path_of(d.name) for d in self.open.means.catalogue.list()}
        places = [p for name in ("runs", "blobs") for p in (self.folder / name).rglob("*")]
        return sorted(path.name for path in places if path.is_file() and path not in kept)

    async def quiet(self) -> None:
        """Wait until no run goes on here any more."""
        parts = self.open.parts
        async with asyncio.timeout(10):
            while parts.coordinator.running() or parts.participant.running():
                await asyncio.to_thread(lambda: None)  # a turn of the loop, and of the disk's threads

    async def rests(self) -> None:
        """Wait until its part in the only run that it takes part in is done for this round."""
        async with asyncio.timeout(10):
            while self.open.parts.participant.running() != {"waiting": 1}:
                await asyncio.to_thread(lambda: None)

    async def stop(self) -> None:
        """It is gone, its connections with it."""
        await self.stack.aclose()


async def a_node(
    node_id: str,
    folder: Path,
    learner: Learner | None = None,
    *,
    data: bool = True,
    real: bool = False,
    engine: Engine | None = None,
    trust: Sequence[str] = (SCIENTIST.id,),
    port: int = 0,
    owners: tuple[str, ...] = (),
    **settings: Any,
) -> ANode:
    """Start a node that trusts the scientist and has, with `data`, a dataset tagged `#pulse`.

    With `real` its workers are processes, as outside of tests; `engine` is one that several nodes share.
    """
    learner = learner or Learner()
    identity = Identity.load_or_create(folder / "identity.key")
    chosen = NodeSettings(node_id, folder, port=0, trust=tuple(trust), **settings)
    stack = AsyncExitStack()
    engines = None if real else lambda _, preload: engine or FakeEngine(learner, chosen.workers)
    node = await stack.enter_async_context(open_node(chosen, identity, owners=owners, engines=engines))
    host = "127.0.0.1" if chosen.listen else None
    node.answers(await stack.enter_async_context(running(node.app, host=host, port=port, local=node.socket)))
    stack.callback(node.events.close)
    if data and not node.means.catalogue.list():
        await add_dataset(node, learner.examples)
    return ANode(node, identity, node.address, folder, learner, stack)


async def add_dataset(node: OpenNode, examples: int = 10, name: str = "pulse", tags: Sequence[str] = TAGS) -> None:
    """Register a dataset of zeros with tensors `features` (3 wide) and `target`."""
    zeros = {"features": np.zeros((examples, 3), np.float32), "target": np.zeros((examples, 1), np.float32)}
    await add_arrays(node, zeros, name, tags)


async def add_arrays(
    node: OpenNode, arrays: Mapping[str, Numbers], name: str = "pulse", tags: Sequence[str] = TAGS
) -> None:
    """Register a dataset of float32 arrays, `features` and `target`, as many rows each."""
    layout = Layout([TensorSpec(each, "F32", array.shape) for each, array in arrays.items()])
    draft = blobs_of(node).create()
    draft.write(header_bytes(layout, {"name": name}))
    for spec in layout.specs:
        draft.write(arrays[spec.name].tobytes())
    await draft.commit()
    examples = len(arrays["target"])
    tensors = tuple(TensorInfo(each, "float32", array.shape) for each, array in arrays.items())
    info = DatasetInfo(name, "made up", tuple(tags), examples, tensors, "target")
    await node.means.catalogue.add(info, draft.digest)


def blobs_of(node: OpenNode) -> Any:
    return node.means.catalogue._blobs


# --- callers ------------------------------------------------------------------------------------


@asynccontextmanager
async def pool() -> AsyncIterator[ClientSession]:
    """Connections to anywhere."""
    async with open_http(Egress(allow_private=True)) as http:
        yield http


class Roll:
    """A directory in memory."""

    def __init__(self, *members: Member) -> None:
        self.members = {member.node_id: member for member in members}

    async def join(self, join: Join) -> Joined:
        raise NotImplementedError

    async def renew(self, renew: Renew) -> Renewed:
        raise NotImplementedError

    async def leave(self, leave: Leave) -> None:
        raise NotImplementedError

    async def search(self, search: Search) -> Found:
        fits = any if search.match == "any" else all
        found = [m for m in self.members.values() if fits(tag in m.tags for tag in search.query)]
        return Found(tuple((m.node_id, m.node_address) for m in found))

    async def resolve(self, node_id: str) -> Member:
        if self.members[node_id].state == "expired":
            raise NotAMember
        return self.members[node_id]


def member(
    peer: Peer,
    identity: Identity | None = None,
    tags: Sequence[str] = TAGS,
    lives: float = 3600.0,
    state: Any = "online",
) -> Member:
    """A member of a directory, with a record that `identity` signed."""
    now = time.time()
    record = None
    if identity is not None:
        said = NodeRecord(peer.node_id, peer.node_address, int(now * 1000), now + lives, tuple(tags), (), identity.id)
        record = sign_document(identity, NODE_RECORD, said)
    return Member(peer.node_id, peer.node_address, state, record is not None, now + 60, tuple(tags), record)


class Scientist:
    """Holds a key; signs tasks."""

    def __init__(self, http: ClientSession, identity: Identity = SCIENTIST) -> None:
        self.identity = identity
        self.calls = Calls(http, identity=identity)

    def grid(self, *nodes: ANode | Puppet) -> Grid:
        """A grid of these nodes."""
        roll = Roll(*(member(node.peer, node.identity) for node in nodes))
        return Grid(roll, self.calls, self.identity, now=time.time)

    def task(self, coordinator: ANode, plan: Plan, **words: Any) -> Task:
        """A task for one round without evaluation, unless `words` say otherwise."""
        now = time.time()
        usual: dict[str, Any] = {
            "run": Identity.generate().public.hex()[:32],
            "plan": plan.digest,
            "coordinator": coordinator.identity.id,
            "tags": TAGS,
            "created": now,
            "expires": now + 3600,
            "holdout": 0.0,
            "deadline": 30.0,
        }
        return Task(**(usual | words))

    async def hand_in(self, coordinator: ANode, plan: Plan) -> None:
        """Put the plan's bundle."""
        await self.grid()._hand_in(plan, coordinator_of(coordinator))

    async def start(
        self, coordinator: ANode, peers: Sequence[ANode | Puppet], plan: Plan | None = None, **words: Any
    ) -> AsyncRun:
        """Hand in the plan and start the run of a task."""
        plan = plan or plan_of()
        await self.hand_in(coordinator, plan)
        return await self.start_task(coordinator, peers, plan, self.task(coordinator, plan, **words))

    async def start_task(self, coordinator: ANode, peers: Sequence[ANode | Puppet], plan: Plan, task: Task) -> AsyncRun:
        """Start the run of a task whose plan is there."""
        message = StartRun(sign_document(self.identity, TASK, task), tuple(each.peer for each in peers))
        await self.calls.call(coordinator.address, START_RUN, message, peer=coordinator.identity.public)
        return AsyncRun(self.calls, self.identity, coordinator.address, task, plan, time.time)


def coordinator_of(node: ANode) -> Peer_:
    """The node as the client's library sees a coordinator."""
    return Peer_(node.address, node.identity.id)


class Peer_(msgspec.Struct, frozen=True):  # noqa: N801 - `Peer` is the wire's
    address: str
    public_key: str


class Story:
    """The events of a run as its owner hears them, kept, so that a test can ask for any of them at any time."""

    def __init__(self, run: AsyncRun) -> None:
        self._watch = run.watch()
        self.told: list[tuple[str, dict[str, Any]]] = []

    async def until(self, kind: str, **wanted: Any) -> dict[str, Any]:
        """The data of the first event of a kind that holds what is wanted; waits for it."""
        async with asyncio.timeout(20):
            at = 0
            while True:
                while at < len(self.told):
                    heard, data = self.told[at]
                    at += 1
                    if heard == kind and all(data.get(word) == value for word, value in wanted.items()):
                        return data
                event = await anext(self._watch)
                self.told.append((event.kind, event.data))


# --- a participant moved by hand ----------------------------------------------------------------


class Puppet:
    """A participant that does what a test tells it to. Its invitation is taken; the rest is the test's."""

    def __init__(self, node_id: str, http: ClientSession, *, examples: int = 10) -> None:
        self.identity = Identity.generate()
        self.id, self.examples = node_id, examples
        self.address = ""
        self.calls = Calls(http, identity=self.identity)
        self.invite: asyncio.Future[Invite] = asyncio.get_running_loop().create_future()
        self.refuses: GridError | None = None
        self._prekey = Prekey.generate()
        self._polling: asyncio.Task[None] | None = None
        self.heard: list[str] = []

    @property
    def peer(self) -> Peer:
        return Peer(self.id, self.address, self.identity.id)

    def app(self) -> web.Application:
        auth = Authenticator(self.identity, time.time)
        routes = {
            SESSION: session_handler(auth),
            IDENTITY: identity_handler(self.identity, "node", "0", self.id),
            INVITE: self._invited,
        }
        return create_app(routes, auth=auth, metrics=Metrics(), about="A puppet")

    async def _invited(self, request: web.Request) -> web.StreamResponse:
        invite = await body.read(request, INVITE)
        if self.refuses:
            raise self.refuses
        if not self.invite.done():
            self.invite.set_result(invite)
        return body.reply(INVITE, Invited(self.id, "pulse", self.examples), request=request)

    # --- what it says -----------------------------------------------------------------------------

    async def takes_part(self, run: AsyncRun, examples: int | None = None) -> None:
        """Listen, and say that it is ready."""
        self._in(run)
        async with asyncio.timeout(10):
            await self.invite
        self.listens()
        await self.reports(0, Report("ready", self.examples if examples is None else examples))

    def listens(self) -> None:
        """Keep a poll open until `hangs_up`."""
        self._polling = asyncio.create_task(self._poll())

    async def hangs_up(self) -> None:
        """Let go of the poll."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def hears(self, after: int = 0, wait: float = 0.0) -> Events:
        """One poll."""
        return await self.calls.call(
            self._at, RUN_EVENTS, query=After(after, wait), peer=self._coordinator, run=self._run
        )

    async def _poll(self) -> None:
        cursor = 0
        while "run-ended" not in self.heard:
            events = await self.hears(cursor, 20.0)
            cursor = events.after
            self.heard += [event.kind for event in events.events]

    async def bundle(self) -> bytes:
        """Fetch the plan."""
        return await self._fetch(BUNDLE, "bundle", 0)

    async def model(self, number: int, limit: int = 1 << 20) -> bytes:
        """Commit to a round and fetch its model; the safetensors file."""
        return await self._fetch(MODEL, "model", number, limit, round=number)

    async def _fetch(self, endpoint: Any, kind: str, number: int, limit: int = 1 << 20, **path: Any) -> bytes:
        now = time.time()
        fetch = Fetch(publish(self.identity, self._prekey, now, now + 60))
        context = Context(run=self._run, round=number, kind=kind, sender=self._coordinator)
        opener = Opener(self.identity.public, {self._prekey.id: self._prekey}.get, context, now)
        async with self.calls.download(self._at, endpoint, fetch, peer=self._coordinator, run=self._run, **path) as (
            _,
            blocks,
        ):
            return opener.feed(await gather(blocks, limit)) + opener.finish()

    async def reports(self, number: int, report: Report, identity: Identity | None = None, **header: Any) -> None:
        """Hand in a report, sealed by itself unless `identity` is given."""
        sealed = await self.sealed("report", number, msgspec.msgpack.encode(report), identity, **header)
        await self.send(REPORT, number, sealed)

    async def updates(
        self, number: int, values: Numbers | Sequence[float], examples: int | None = None, **header: Any
    ) -> Counted:
        """Hand in an update of `plan_of`."""
        counted: Counted = await self.send(UPDATE, number, await self.update(number, values, examples, **header))
        return counted

    async def update(
        self,
        number: int,
        values: Numbers | Sequence[float],
        examples: int | None = None,
        layout: Layout | None = None,
        report: Report | None = None,
        identity: Identity | None = None,
        **header: Any,
    ) -> bytes:
        """The sealed update, as it would be sent."""
        said = report or Report("trained", self.examples if examples is None else examples, {"loss": 1.0})
        head = header_bytes(layout or plan_of().layout, {REPORT_ENTRY: msgspec.json.encode(said).decode()})
        payload = head + np.asarray(values, np.float32).tobytes()
        return await self.sealed("update", number, payload, identity, **header)

    async def sealed(
        self, purpose: str, number: int, payload: bytes, identity: Identity | None = None, **changed: Any
    ) -> bytes:
        """An envelope for the coordinator."""
        identity, now = identity or self.identity, time.time()
        usual: dict[str, Any] = {
            "sender": identity.public,
            "audience": self._coordinator,
            "kind": purpose,
            "run": self._run,
            "round": number,
            "created": int(now),
            "expires": int(now + 60),
        }
        prekey = read_prekey((await self.invite).prekey, self._coordinator, now)
        return seal_bytes(identity, Header(**(usual | changed)), payload, [prekey])

    async def send(self, endpoint: Any, number: int, envelope: bytes, run: str = "") -> Any:
        """Send bytes to an endpoint of a round."""
        return await self.calls.upload(
            self._at,
            endpoint,
            once(envelope),
            length=len(envelope),
            peer=self._coordinator,
            run=run or self._run,
            round=number,
        )

    def joins(self, run: AsyncRun) -> None:
        """Know of a run, invited or not."""
        self._in(run)

    def _in(self, run: AsyncRun) -> None:
        self._run, self._at = run.id, run._address
        self._coordinator = public_from_id(run.task.coordinator)


@asynccontextmanager
async def a_puppet(node_id: str, http: ClientSession, *, examples: int = 10) -> AsyncIterator[Puppet]:
    """A puppet that answers on a free port."""
    puppet = Puppet(node_id, http, examples=examples)
    async with running(puppet.app()) as puppet.address:
        yield puppet
        await puppet.hangs_up()


def quorum(minimum: int, target: int = 0) -> Quorum:
    """As in a task."""
    return Quorum(minimum, target)
