"""One node's part in one run: the plan into a seat, then round after round until the run is over."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from grid.client.payload import mapped, sealed
from grid.crypto.prekeys import PrekeyPublic
from grid.faults import point
from grid.learning.questions import Evaluate, Question, reads
from grid.learning.scheme import Scheme
from grid.learning.strategy import Masked, read_strategy
from grid.learning.study import Study, read_bundle
from grid.learning.tensors import header_bytes
from grid.node.clipping import Clipping
from grid.node.collect import REPORT as REPORT_ENTRY
from grid.node.collect import SUM
from grid.node.columns import Place as ColumnPlace
from grid.node.columns import places
from grid.node.finished import Finished
from grid.node.journal import Journal
from grid.node.late_intake import steps_of
from grid.node.lift import Place
from grid.node.means import Means
from grid.node.party import SumParty
from grid.node.spending import Payer, Spending, spending_of
from grid.node.upstream import PASSING, Upstream
from grid.store.blobs import Blobs
from grid.wire.message import JSON, encode
from grid.wire.node import DatasetInfo
from grid.wire.problems import (
    GridError,
    NotInvited,
    PrekeyUnknown,
    RoundClosed,
    RunNotFound,
    WorkerFailed,
    WorkerLost,
)
from grid.wire.runs import Event, Report, Task
from grid.worker.port import AnalyseJob, Job, Priority, Seat, TrainJob

log = logging.getLogger(__name__)

T = TypeVar("T")

TRIES = 2
"""Workers in which an assignment is begun, one after the other, before a node says that it failed."""

SETTLE = 2.0
"""Seconds that an upload has to hear its answer once the next round is open."""

BUNDLES = "plan-"
"""The plan of a run lies in a file of this name and the run's id for as long as the run goes on here."""

CALLS = frozenset({"round-opened", "spare-drawn", "evaluating"})
"""The events that ask this node to do something."""


class Held(NamedTuple):
    """A dataset of this node: what is told about it, the file that its tensors lie in, whose key asks for it, and by
    what name its holder is known here."""

    info: DatasetInfo
    tensors: Path
    signer: str
    account: str


class Participation:
    """What this node does for one run. `data` is what it learns from; before a seat is asked for, `make_room`.

    `carry_out` listens to the run's events all the while: an open poll tells the coordinator that this node
    is there, and a round that closes ends the work on it at once; unless rounds are steps, which take it later as well.
    """

    def __init__(
        self,
        means: Means,
        task: Task,
        address: str,
        prekey: PrekeyPublic | None,
        data: Held,
        blobs: Blobs,
        journal: Journal,
        make_room: Callable[[], Awaitable[None]],
    ) -> None:
        self._means, self.task = means, task
        self._upstream = Upstream(means, task, address, prekey)
        self._data, self._blobs, self._journal, self._make_room = data, blobs, journal, make_room
        self._seat: tuple[Seat, dict[str, Any]] | None = None
        self._scheme: Scheme
        self._spending: Spending
        self._question: Question | None = None
        self._columns: dict[str, ColumnPlace] = {}
        self._finished = Finished(means.records, blobs, task.run, means.identity.id)
        strategy = read_strategy(task.strategy)
        self._steps = steps_of(strategy)
        self._clipping = Clipping(strategy.upload) if isinstance(strategy.upload, Masked) else None
        self._call, self._called = (0, False), False
        self._begun = self._counted = 0
        self._base, self._sum = "", 0
        self._bundle_path: Path
        self._turn = asyncio.Lock()
        self.state = "preparing"
        self.address, self.learned_from = address, (data.info.name, data.account)

    async def carry_out(self) -> None:
        """The whole run, until the coordinator ends it, or cannot be reached any more."""
        try:
            async with asyncio.TaskGroup() as group:
                self._work = group.create_task(self._prepare())
                await self._listen(group)
                self._work.cancel()
        except* GridError as failures:
            log.warning("run %s: %s", self.task.run, failures.exceptions[0])
            self._journal.note("failed", reason=str(failures.exceptions[0]))
        finally:
            await self._stand_up()
            self._blobs.named(BUNDLES + self.task.run).unlink(missing_ok=True)
            self._blobs.let_go()
        await self._journal.written()

    # --- listening --------------------------------------------------------------------------------

    async def _listen(self, group: asyncio.TaskGroup) -> None:
        cursor = 0
        while True:
            events = await self._upstream.events(cursor)
            cursor = events[-1].cursor if events else cursor
            if any(event.kind == "run-ended" for event in events):
                return
            for event in events:
                if self._clipping is not None and event.kind == "round-opened":
                    self._clipping.opened(event)
            for event in self._newest(events, self._means.node_id):
                number = int(event.data["round"]) if _asked(event, self._means.node_id) else 0
                self._call = number, event.kind != "evaluating"
                self._again(number, int(event.data.get(SUM, 0)))
                if self._called and self._lets_finish():
                    continue  # whoever waits for the work before it to be finished will do this
                self._called = True
                self._work = group.create_task(self._do(self._work))

    def _again(self, number: int, sum_: int) -> None:
        """A round was opened. Where it is summed under masks, it may be one that is held anew."""
        if sum_ and sum_ != self._sum:
            self._sum, self._counted = sum_, min(self._counted, number - 1)

    def moved(self, address: str, prekey: PrekeyPublic) -> None:
        """The coordinator is there again, perhaps elsewhere."""
        self._upstream.moved(address, prekey)
        self.address = address

    @staticmethod
    def _newest(events: list[Event], node: str) -> list[Event]:
        """Only the last word counts: rounds that opened while this node was away are over."""
        calls = [e for e in events if e.kind in CALLS and (e.kind != "spare-drawn" or _asked(e, node))]
        return calls[-1:]

    # --- working ----------------------------------------------------------------------------------

    async def _do(self, previous: asyncio.Task[None]) -> None:
        """The newest assignment; whatever goes wrong in it is told to the coordinator, who does not wait then.

        A round that was opened for others ends the work on the one before it, too.
        """
        await self._finish(previous)
        (number, train), self._called = self._call, False
        if train and number <= self._counted:  # 0: not drawn; else this step took the update of an earlier model
            self.state = "waiting"
            return
        self._begun = number
        try:
            async with self._turn:
                await self._again_if_lost(lambda: self._assignment(number, train))
        except (RoundClosed, RunNotFound, NotInvited) as late:  # it opened while this node was away
            log.info("run %s round %d: %s", self.task.run, number, late.detail)
        except GridError as error:
            log.warning("run %s round %d: %s", self.task.run, number, error.detail)
            self._journal.note("failed", round=number, reason=error.detail)
            await self._upstream.report(number, Report(status="failed", reason=error.detail))
        await self._wait()

    async def _finish(self, previous: asyncio.Task[None]) -> None:
        """Let the plan be loaded, or an upload hear its answer; break off anything else, unless it counts later."""
        if self.state != "preparing" and not self._lets_finish():
            try:
                await asyncio.wait({previous}, timeout=SETTLE if self.state == "uploading" else 0.0)
            finally:  # also when this one is broken off itself
                previous.cancel()
        try:
            await asyncio.wait({previous})
        except asyncio.CancelledError:
            previous.cancel()
            raise

    def _lets_finish(self) -> bool:
        """Whether what this node trains goes on although a round opened: a step will take it, unless it is too old."""
        number, train = self._call
        return self._steps is not None and train and number - self._begun <= self._steps.oldest

    async def _prepare(self) -> None:
        """Fetch the plan, load it with the data into a sandboxed seat, and say whether that went well."""
        try:
            report = await self._again_if_lost(self._ready)
        except GridError as error:
            await self._upstream.report(0, Report(status="failed", reason=error.detail))
            raise  # there is nothing for this node to do in the run
        await self._upstream.report(0, report)
        await self._wait()

    async def _ready(self) -> Report:
        await self._finished.recall()
        self._bundle_path = await self._upstream.bundle(self._blobs, BUNDLES + self.task.run)
        plan = read_bundle(mapped(self._bundle_path))
        self._scheme = Scheme(plan, read_strategy(self.task.strategy))
        who = Payer(self.task, self._data.info.name, self._data.account)
        self._spending = await spending_of(self._means, who, plan, self._scheme.strategy)
        if isinstance(plan, Study):
            self._question, self._columns = plan.question, places(self._data.info, reads(plan.question))
        async with self._sitting() as (_, prepared):
            return Report(status="ready", examples=prepared["examples"])

    async def _again_if_lost(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do something with a worker. One that dies in it, or overruns a limit, costs time: another begins anew."""
        for left in reversed(range(TRIES)):
            try:
                return await work()
            except WorkerLost as lost:
                if not left:
                    raise WorkerLost(f"{lost.detail}; so ended {TRIES} workers, one after the other") from None
                log.warning("run %s: %s; another worker begins anew", self.task.run, lost.detail)
                self._journal.note("worker-lost", reason=lost.detail)
        raise AssertionError("unreachable")

    async def _assignment(self, number: int, train: bool) -> None:
        for key in (self.task.coordinator, self._data.signer):  # perhaps since the round before
            self._means.peers.refuse_revoked(key)
        if await self._is_finished(number) and train:
            return
        self.state = "training" if train else "evaluating"
        async with self._sitting(Priority.TRAINING if train else Priority.EVALUATION) as (seat, _):
            wire = self._scheme.broadcast
            await self._upstream.model(number, wire, seat.inbox[: wire.size])
            self._base = (await seat.call("receive")).get("base", "")
            point("after-model")
            measured = await self._evaluate(number, seat) if self.task.holdout else None
            if train:
                await self._train(number, seat, measured)

    async def _is_finished(self, number: int) -> bool:
        """Whether the work of round `number` was done before this node stopped or was broken off, and is counted now.

        An update of a round before it is handed in too: that tells whether the state that belongs to it holds.
        """
        if not (waiting := self._finished.number):
            return False
        if self._scheme.strategy.masked:
            await self._finished.dropped("the secrets of its masks are gone")
            return False
        self.state = "uploading"
        try:
            await self._hand_in()
        except PASSING:
            raise
        except GridError as refused:  # its round is over, or nobody can open it any more
            log.info("run %s round %d: %s", self.task.run, waiting, refused.detail)
            return False
        return number == waiting or number <= self._counted  # a later step may have taken it

    async def _evaluate(self, number: int, seat: Seat) -> Report:
        """Measure the model that came, and tell the coordinator: unless that, too, is only to be seen summed."""
        done = await seat.call("evaluate", split="held-out")
        measured = Report(status="evaluated", examples=done["examples"], metrics=done["metrics"])
        self._journal.note("evaluated", round=number - 1, examples=measured.examples, **measured.metrics)
        if not self._scheme.strategy.masked:
            await self._upstream.report(number, measured)
        return measured

    async def _train(self, number: int, seat: Seat, measured: Report | None) -> None:
        """Train and hand in. What the strategy keeps here goes on only with an update that was accepted."""
        if self._clipping is not None:
            await self._train_masked(number, seat, measured, self._clipping)
            return
        done, cost = await self._fit(number, seat)
        self._trained(number, done, cost, seat.device)
        learned = Report(
            status="trained",
            examples=done["examples"],
            metrics=done["metrics"],
            numbers=done["numbers"] | cost,
            base=done.get("base", ""),
        )
        await self._seal(number, seat, learned)
        try:
            await self._hand_in()
        except PrekeyUnknown:
            self._upstream.forget_prekey()
            await self._seal(number, seat, learned)
            await self._hand_in()

    def _trained(self, number: int, done: dict[str, Any], cost: dict[str, Any], device: str) -> None:
        """Note what came of a training: for the owner alone, the norm of a held run's update."""
        norm = {"norm": done["norm"]} if "norm" in done else {}
        told = {"examples": done["examples"], **done["metrics"], **cost, **norm}
        self._journal.note("trained", round=number, **told, device=device)
        self.state = "uploading"

    async def _fit(self, number: int, seat: Seat) -> tuple[dict[str, Any], dict[str, float]]:
        """Train in the seat; what came of it, and what that cost each record, where the plan is private."""
        secret = self._spending.begin()
        point("before-fit")
        hears, seed = self._journal.progress_of(number), self.task.seed + number
        told = {"norm": True} if self.task.held else {}
        done = await seat.call("fit", hears, round=number, seed=seed, **secret, **told)
        point("after-fit")
        return done, await self._spending.paid(number)

    async def _train_masked(self, number: int, seat: Seat, measured: Report | None, clipping: Clipping) -> None:
        """Train, hand in a vector that nobody can read, and help to lift the masks of the sum that it is in."""
        clipping.check()
        rule, clip = clipping.rule, clipping.clip
        place = Place(number, self._sum)
        party = SumParty(self._means, self._upstream, self.task, place, rule, self._scheme.masked_numbers)
        agreeing = asyncio.ensure_future(party.agree(self._base))
        try:
            done, paid = await self._fit(number, seat)
            seeds = await agreeing
        finally:
            agreeing.cancel()
            await asyncio.gather(agreeing, return_exceptions=True)
        cost = {"epsilon": rule.epsilon(number), "delta": rule.delta} if rule.noisy else {}
        cost |= ({"clip": clip} if clip else {}) | paid
        self._trained(number, done, cost, seat.device)
        own = [done["examples"], done["metrics"].get("loss", 0.0), 0, []]
        if measured is not None:
            own[2:] = measured.examples, [measured.metrics.get(name, 0.0) for name in self._scheme.metrics]
        drawn: dict[str, Any] = {"seed": os.urandom(16), "noise": os.urandom(16), "clip": clip}
        await seat.call("mask", **seeds._asdict(), **drawn, own=own)
        party.sent()
        numbers = {SUM: float(place.sum), **paid}
        report = Report(status="trained", examples=1, numbers=numbers, base=done["base"])  # its weight is in the vector
        await self._seal(number, seat, report)
        await self._hand_in()
        try:
            await party.reveal()
        except (RoundClosed, RunNotFound) as late:  # enough others did
            log.info("run %s round %d: %s", self.task.run, number, late.detail)

    async def _seal(self, number: int, seat: Seat, report: Report) -> None:
        """The update, sealed for the coordinator, on this disk."""
        head = header_bytes(self._scheme.update, {REPORT_ENTRY: encode(report, JSON).decode()})
        data = seat.outbox[: self._scheme.update.size]
        header = self._means.header("update", self.task.run, number, len(head) + len(data), self._upstream.key)
        recipient = await self._upstream.recipient()
        blocks = sealed(self._means.identity, header, [head, data], recipient)
        await self._finished.keep(number, blocks, seat.state)

    async def _hand_in(self) -> None:
        """Hand in what is finished. Whatever the coordinator refuses, for good, is dropped."""
        number = self._finished.number
        try:
            self._counted = await self._upstream.update(number, self._finished.update(number)) or self._counted
        except PASSING:
            raise
        except GridError as refused:
            await self._finished.dropped(refused.detail)
            raise
        point("after-upload")
        await self._finished.counted()

    @asynccontextmanager
    async def _sitting(self, priority: Priority = Priority.TRAINING) -> AsyncIterator[tuple[Seat, dict[str, Any]]]:
        """The seat with plan and data in it. One that was broken off in its work is given back: it is out of step."""
        if self._seat is None:
            await self._make_room()
            seat = await self._means.trainer.open(self._job(priority))
            try:
                self._seat = seat, await seat.call("prepare")
            except BaseException:
                await seat.close()
                raise
        seat, own = self._seat[0], self._finished.own
        seat.state[:] = own or bytes(len(seat.state))
        try:
            yield self._seat
        except (asyncio.CancelledError, WorkerFailed):
            await self._stand_up()
            raise

    @property
    def device(self) -> str:
        """What its seat computes on; empty while it holds none."""
        return "" if self._seat is None else self._seat[0].device

    @property
    def resting(self) -> bool:
        """Whether it holds a seat in which nothing is done at present."""
        return self._seat is not None and self.state == "waiting" and not self._turn.locked()

    async def rest(self) -> None:
        """Give the seat back: somebody else can use it. What the strategy keeps goes into the next one."""
        await self._stand_up()

    async def _wait(self) -> None:
        """Nothing is to be done at present; if other jobs wait for a worker, the seat is theirs."""
        self.state = "waiting"
        if self._means.trainer.status()["waiting"]:
            await self.rest()

    async def _stand_up(self) -> None:
        taken, self._seat = self._seat, None
        if taken is not None:
            await taken[0].close()

    def _job(self, priority: Priority) -> Job:
        measured = self._question if isinstance(self._question, Evaluate) else None
        if self._scheme.strategy.analyses and measured is None:
            return AnalyseJob(
                bundle=self._bundle_path,
                tensors=self._data.tensors,
                columns=self._columns,
                strategy=self._scheme.strategy,
                least_rows=self._means.least_rows,
                run=self.task.run,
            )
        return TrainJob(
            bundle=self._bundle_path,
            tensors=self._data.tensors,
            inputs=self.task.inputs,
            target=self.task.target,
            holdout=self.task.holdout if measured is None else measured.holdout,
            seed=self.task.seed if measured is None else measured.seed,
            strategy=self._scheme.strategy,
            priority=priority,
            run=self.task.run,
            least_rows=self._means.least_rows,
        )


def _asked(event: Event, node: str) -> bool:
    """Whether a call is for a node: a round names those who were drawn, the others are its spares."""
    if event.kind == "spare-drawn":
        return bool(event.data.get("node") == node)
    return "invited" not in event.data or node in event.data["invited"]
