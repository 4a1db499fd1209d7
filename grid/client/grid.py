"""The data scientist's grid: search, describe, train. Async; `plain` wraps it for notebooks."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from grid.client.accounts import sign_in
from grid.client.bundles import hand_in_plan
from grid.client.calls import Calls
from grid.client.datasets import AsyncDataset, all_datasets
from grid.client.models import AsyncModel, all_models
from grid.client.pins import MemoryPins, Pins
from grid.client.projects import AsyncProject
from grid.client.reattach import attach
from grid.client.requests import AsyncRequest, Office, ask, requests_at
from grid.client.run import AsyncRun, B
from grid.client.settings import Settings, parameters_of, quorum_of
from grid.crypto.identity import Identity, public_from_id
from grid.learning.plan import Plan
from grid.learning.private import Privacy
from grid.learning.questions import Question
from grid.learning.recipe import Dp
from grid.learning.strategy import ANALYSIS, Strategy, least_updates, travelling
from grid.learning.study import Study
from grid.protocol.directory import Directory
from grid.protocol.documents import read_document, sign_document
from grid.protocol.transparency import moved
from grid.wire.accounts import AccountInfo
from grid.wire.directory import NODE_RECORD, Member, NodeRecord, Search
from grid.wire.problems import GridError, LogForked, NoParticipants, NotAMember
from grid.wire.projects import PROJECT_INFO, PROJECTS
from grid.wire.requests import Ask, Training
from grid.wire.runs import (
    RUNS,
    START_RUN,
    TASK,
    Peer,
    RunInfo,
    StartRun,
    Stopping,
    Task,
)
from grid.wire.session import IDENTITY


class Coordinator(Protocol):
    """A node that will drive a run: where it answers, and its key (wire form)."""

    @property
    def address(self) -> str:
        """Where it answers."""

    @property
    def public_key(self) -> str:
        """Its key, wire form."""


@dataclass(frozen=True)
class Remote:
    """A coordinator somewhere on the grid."""

    address: str
    public_key: str


Embed = Callable[[], Awaitable[Coordinator]]
"""Starts a coordinator inside this process, or gives the one that runs already."""


@dataclass(frozen=True)
class Node:
    """A node as a search found it. `verified`: it signed what is said of it here."""

    id: str
    address: str
    tags: tuple[str, ...]
    verified: bool
    state: str
    public_key: str | None = None

    def peer(self) -> Peer:
        """The node as a run invites it."""
        assert self.public_key is not None
        return Peer(self.id, self.address, self.public_key)


class _Party(NamedTuple):
    """Who takes part in a run, and who drives it; `skipped` have such data, and never proved who they are."""

    tags: tuple[str, ...]
    peers: tuple[Peer, ...]
    skipped: tuple[str, ...]
    driver: Coordinator


class Grid:
    """A grid seen through a directory, by the holder of `identity`.

    `pins`: by which keys others are known; names are those of the directory at `gateway` (NAME@GATEWAY).
    """

    def __init__(
        self,
        directory: Directory,
        calls: Calls,
        identity: Identity,
        *,
        embed: Embed | None = None,
        now: Callable[[], float],
        pins: Pins | None = None,
        gateway: str = "",
    ) -> None:
        self._pins, self._gateway = pins or MemoryPins(now), gateway.rstrip("/")
        self._directory, self._calls, self.identity = directory, calls, identity
        self._embed, self._now = embed, now

    async def search(self, *tags: str, match: str = "all", live: bool = False) -> list[Node]:
        """The nodes that have data with these tags: all of them, or any; `live` asks the nodes themselves.

        Raises:
            KeyChanged: the directory gives one of them another key than the one it is known by.
        """
        search = Search(query=_words(tags), match=match, live=live)  # type: ignore[arg-type]
        found = await self._directory.search(search)
        looked_up = await asyncio.gather(*(self._resolve(node) for node, _ in found.node_addresses))
        return [node for node in looked_up if node is not None]

    async def compare(self, *tags: str) -> dict[str, str]:
        """Compare what the directory tells us with what it told each verified node that has data with these tags.

        By node, in words: it was told the same, it follows no log, or it cannot be asked.

        Raises:
            LogForked: the directory tells one of them something else.
        """
        told: dict[str, str] = {}
        for node in await self.search(*tags):
            if not node.verified:
                continue
            try:
                same = await self._directory.witness(node.address, public_from_id(node.peer().public_key))
                told[node.id] = "was told the same" if same else "follows no log of this gateway"
            except LogForked:
                raise
            except GridError as error:
                told[node.id] = f"cannot be asked: {error.detail}"
        return told

    async def datasets(self, *tags: str) -> dict[str, tuple[AsyncDataset, ...]]:
        """The datasets of each node that has data with these tags; silent nodes are left out."""
        described: dict[str, tuple[AsyncDataset, ...]] = {}
        for node in await self.search(*tags):
            try:
                found = await all_datasets(self._calls, node.address, _public(node))
            except GridError:
                continue
            described[node.id] = tuple(
                AsyncDataset(self._calls, node.id, node.address, node.public_key, info)
                for info in found
                if set(_words(tags)) <= set(info.tags)
            )
        return described

    async def train(
        self,
        plan: Plan,
        data: str | Sequence[str],
        *,
        rounds: int = 1,
        quorum: int | Literal["all"] | None = None,
        target_updates: int = 0,
        drawn: int = 0,
        deadline: float = 600.0,
        pace: float = 0.0,
        holdout: float = 0.2,
        inputs: Sequence[str] = ("features",),
        target: str = "target",
        seed: int = 0,
        strategy: str | Strategy = "fedavg",
        upload: str | None = None,
        broadcast: str | None = None,
        secure: bool = False,
        clip: float = 0.0,
        noise: float = 0.0,
        clip_quantile: float = 0.0,
        dp: Privacy | Dp | None = None,
        coordinator: str | None = None,
        stop_on: str | Stopping | None = None,
        held: bool = False,
    ) -> AsyncRun[Plan]:
        """Start a run of `plan` on all verified nodes whose data has the tags `data`.

        `quorum`: the fewest updates that make a round count ("all"; if not given, half of the nodes, or what
        the strategy needs); `target_updates`: as many close it at once (0: all); `drawn`: so many nodes are
        drawn into each round, the others stand by (0: all are); `deadline`: seconds for a round at most;
        `pace`: less than that, as many times as long as most updates of past rounds took (0: always the
        deadline); `holdout`: the share of examples that each node keeps for evaluation; `strategy`: a preset's
        name or a strategy (`grid.learning.strategy`; a preset's buffer holds no more updates than the quorum);
        `upload`: how its updates travel ("exact", "int8", "top-k", "masked"); `secure`: "masked", so that
        nobody sees one node's update, its number of examples or what it measured, but only sums over three
        nodes and more; `clip` and `noise`: secure, and noised so that each node is hidden
        (`grid.learning.strategy.Masked`), by `noise` times `clip` in the sum even of as few nodes as make a
        round count; `clip_quantile`: the clip follows what nodes learn, so that about this share of them is
        within it; `broadcast`: how models travel to the nodes ("exact", "bf16"); `dp`: what the run may cost each
        record, or how its steps are noised (`grid.learning.private`), with which no examples are held out and
        nothing is measured; `coordinator`: a node's address, or None for one in this process; `stop_on`: the
        metric after which the run ends before its last round, as `Stopping` or in words (`stopping`); `held`: what it
        learns is handed out once an officer of each node that asks for that has released it.

        Raises:
            NoParticipants: nobody has such data.
            StrategyRefused: no such strategy, or not with this plan.
            RunRefused, NotAllowed, PlanRefused: the coordinator does not take the run, or the plan cannot be private.
        """
        settings = Settings(
            rounds, quorum, target_updates, drawn, deadline, pace, holdout, tuple(inputs), target, seed, strategy,
            upload, broadcast, secure, clip, noise, clip_quantile, dp, stop_on, held,
        )  # fmt: skip
        party = await self._party(data, coordinator)
        plan, parameters = parameters_of(plan, len(party.peers), settings)
        return await self._start(plan, party, parameters)

    async def request_training(
        self, plan: Plan, data: str | Sequence[str], *, reason: str, **settings: Any
    ) -> list[AsyncRequest]:
        """Ask every node whose data has the tags `data` to admit a run: a request each, with the plan in it.

        `settings` as in `train`, without a coordinator: once the requests are accepted, `train` with the same ones
        starts the run that was admitted.

        Raises:
            NoParticipants, StrategyRefused, PlanRefused: as in `train`.
            RequestRefused, NotAllowed: a node does not take the request.
        """
        tags = _words((data,) if isinstance(data, str) else data)
        peers = _peers(await self.search(*tags), tags)
        plan, said = parameters_of(plan, len(peers), Settings(**settings))
        wish = Training(plan.digest, *(said[each] for each in ("rounds", "inputs", "target", "holdout", "strategy")))
        asked = []
        for peer in peers:
            office = Office(peer.node_address, key := public_from_id(peer.public_key))
            await hand_in_plan(self._calls, self.identity, office.address, key, plan, self._now())
            found = await all_datasets(self._calls, *office)
            fitting = [info for info in found if set(tags) <= set(info.tags)]
            if not fitting:
                raise NoParticipants(f"{peer.node_id} shows you no dataset with the tags {' '.join(tags)}")
            chosen = min(fitting, key=lambda info: (-info.examples, info.name))
            asked.append(await ask(self._calls, office, Ask("training", chosen.name, reason, training=wish)))
        return asked

    async def requests(self, *nodes: str) -> list[AsyncRequest]:
        """The caller's requests at the nodes of these addresses, newest first: answered or not."""
        found = []
        for address in nodes:
            there = await self._coordinator(address)
            found += await requests_at(self._calls, Office(address, public_from_id(there.public_key)))
        return found

    async def models(self, *nodes: str) -> list[AsyncModel]:
        """The models that the caller may see at the nodes of these addresses: to be asked, or fetched."""
        found = []
        for address in nodes:
            there = await self._coordinator(address)
            found += await all_models(self._calls, Office(address, public_from_id(there.public_key)))
        return found

    async def analyse(
        self,
        question: Question,
        data: str | Sequence[str],
        *,
        quorum: int | Literal["all"] = "all",
        secure: bool | None = None,
        deadline: float = 600.0,
        coordinator: str | None = None,
    ) -> AsyncRun[Study]:
        """Ask a question of the rows of all verified nodes whose data has the tags `data`, as if they lay in one place.

        The result's `plan.answer` holds numbers by name, as `grid.learning.questions` says; of fewer nodes than `all`
        only if `quorum` allows it. `secure`: nobody sees one node's part, but only the sum of all; if not given, where
        three nodes or more take part. `deadline` and `coordinator` as in `train`.

        Raises:
            NoParticipants: nobody has such data.
            QuestionRefused: it cannot be asked.
            RunRefused, NotAllowed: the coordinator does not take the run.
        """
        return await self._ask(Study(question), data, quorum, secure, deadline, coordinator, {})

    async def evaluate(
        self,
        plan: Plan,
        data: str | Sequence[str],
        *,
        holdout: float = 0.0,
        seed: int = 0,
        inputs: Sequence[str] = ("features",),
        target: str = "target",
        quorum: int | Literal["all"] = "all",
        secure: bool | None = None,
        deadline: float = 600.0,
        coordinator: str | None = None,
    ) -> AsyncRun[Study]:
        """How a plan does, as it is, on all examples of the nodes whose data has the tags `data`, as in one place.

        The result's `plan.answer` holds its loss and metrics. With a `holdout`, only the examples count that a
        training with this and `seed` held out. The rest as in `train` and `analyse`.

        Raises:
            NoParticipants: nobody has such data.
            RunRefused, NotAllowed, PlanRefused: the coordinator does not take the run.
        """
        reads = {"inputs": tuple(inputs), "target": target}
        return await self._ask(Study.of(plan, holdout, seed), data, quorum, secure, deadline, coordinator, reads)

    async def _ask(
        self,
        study: Study,
        data: str | Sequence[str],
        quorum: int | Literal["all"],
        secure: bool | None,
        deadline: float,
        coordinator: str | None,
        reads: dict[str, Any],
    ) -> AsyncRun[Study]:
        party = await self._party(data, coordinator)
        peers = len(party.peers)
        secure = peers >= least_updates(travelling(ANALYSIS, "masked")) if secure is None else secure
        chosen = travelling(ANALYSIS, "masked") if secure else ANALYSIS
        asked = quorum_of(quorum, peers, 0, 0, least_updates(chosen))
        asks = {"strategy": msgspec.to_builtins(chosen), "quorum": asked, "deadline": deadline}
        return await self._start(study, party, study.parameters | reads | asks)

    async def _party(self, data: str | Sequence[str], coordinator: str | None) -> _Party:
        """Who takes part in a run. Raises NoParticipants."""
        tags = _words((data,) if isinstance(data, str) else data)
        nodes = await self.search(*tags)
        peers = _peers(nodes, tags)
        skipped = tuple(node.id for node in nodes if not node.verified)
        return _Party(tags, peers, skipped, await self._coordinator(coordinator))

    async def _start(self, plan: B, party: _Party, parameters: dict[str, Any]) -> AsyncRun[B]:
        """Sign a task and have it driven. `parameters` are named as in `Task`."""
        driver, now = party.driver, self._now()
        task = Task(
            run=secrets.token_hex(16),
            plan=plan.digest,
            coordinator=driver.public_key,
            tags=party.tags,
            created=now,
            expires=now + 3600.0 + parameters["rounds"] * parameters["deadline"],
            **parameters,
        )
        await self._hand_in(plan, driver)
        start = StartRun(sign_document(self.identity, TASK, task), party.peers)
        await self._calls.call(driver.address, START_RUN, start, peer=public_from_id(driver.public_key))
        return AsyncRun(self._calls, self.identity, driver.address, task, plan, self._now, party.skipped)

    async def runs(self, coordinator: str | None = None) -> list[RunInfo]:
        """The caller's runs at a coordinator (None: the one in this process), newest first."""
        driver = await self._coordinator(coordinator)
        return list((await self._calls.call(driver.address, RUNS, peer=public_from_id(driver.public_key))).runs)

    async def run(self, run: str, coordinator: str | None = None) -> AsyncRun[Any]:
        """A run that was started before, perhaps by another process of the caller's, and may be over.

        Raises:
            RunNotFound: there is no such run of the caller's.
            BadSignature, RunRefused: the coordinator gives another task than the one that was signed.
        """
        driver = await self._coordinator(coordinator)
        return await attach(self._calls, self.identity, driver, run, self._now)

    async def login(self, address: str, name: str, password: str) -> AccountInfo:
        """Sign in at the node or gateway at an address: the caller's key stands for the account there from then on.

        Raises:
            NotAuthenticated: no account has this name and password.
            AccountRefused: the key stands for another account.
            TooManyRequests: there were too many wrong passwords.
        """
        there = await self._coordinator(address)
        return await sign_in(self._calls, self.identity, address, there.public_key, name, password, self._now())

    async def projects(self, node: str) -> list[AsyncProject]:
        """The projects of the node at an address, newest first: of its owner, whose key is the caller's."""
        driver = await self._coordinator(node)
        told = await self._calls.call(driver.address, PROJECTS, peer=public_from_id(driver.public_key))
        return [AsyncProject(self._calls, self.identity, driver, info, self._now) for info in told.projects]

    async def project(self, project: str, node: str) -> AsyncProject:
        """One of them. Raises ProjectNotFound."""
        driver = await self._coordinator(node)
        peer = public_from_id(driver.public_key)
        info = await self._calls.call(driver.address, PROJECT_INFO, peer=peer, project=project)
        return AsyncProject(self._calls, self.identity, driver, info, self._now)

    async def _coordinator(self, address: str | None) -> Coordinator:
        if address is not None:
            identity = await self._calls.call(address, IDENTITY)
            self._pins.meet(address.rstrip("/"), identity.public_key)
            return Remote(address, identity.public_key)
        if self._embed is None:
            raise NoParticipants("name a coordinator, or install grid-daemon[node] to have one in this process")
        return await self._embed()

    async def _hand_in(self, plan: Plan | Study, driver: Coordinator) -> None:
        """Give the coordinator the plan, sealed."""
        peer = public_from_id(driver.public_key)
        await hand_in_plan(self._calls, self.identity, driver.address, peer, plan, self._now())

    async def _resolve(self, node_id: str) -> Node | None:
        """What a directory knows of one node; None if it left a moment ago."""
        try:
            return self._node(await self._directory.resolve(node_id))
        except NotAMember:
            return None

    def _node(self, member: Member) -> Node:
        """A member, by what it signed where it did: the directory need not be believed then."""
        unproved = Node(member.node_id, member.node_address, member.tags, False, member.state)
        if member.record is None:
            return unproved
        try:
            record = read_document(member.record, NodeRecord, NODE_RECORD, now=self._now())
        except GridError:  # forged or out of date: one such record must not hide all other nodes
            return unproved
        if record.node_id != member.node_id:
            return unproved
        self._pins.meet(f"{member.node_id}@{self._gateway}", member.record.signer, moved(member.rotations))
        return Node(member.node_id, record.node_address, record.tags, True, member.state, member.record.signer)


def _peers(nodes: Sequence[Node], tags: Sequence[str]) -> tuple[Peer, ...]:
    """Those of some nodes that proved who they are. Raises NoParticipants."""
    peers = tuple(node.peer() for node in nodes if node.verified)
    if not peers:
        raise NoParticipants(f"no node on this grid has data with the tags {' '.join(tags)}")
    return peers


def _words(tags: Sequence[str]) -> tuple[str, ...]:
    return tuple(word for tag in tags for word in tag.split())


def _public(node: Node) -> bytes | None:
    return public_from_id(node.public_key) if node.public_key else None
