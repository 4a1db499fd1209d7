"""One node's part in one run: the plan into a seat, then round after round until the run is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any, TypeVar

from grid.client.handing_in import hand_in, named_by
from grid.client.payload import mapped, once, open_tensors, opened, read_prekey, seal_message, sealed
from grid.crypto.envelope import Context
from grid.crypto.identity import public_from_id
from grid.crypto.prekeys import PrekeyPublic
from grid.crypto.sealing import Opener
from grid.faults import point
from grid.learning.plan import Plan
from grid.learning.scheme import Scheme
from grid.learning.strategy import read_strategy
from grid.learning.tensors import header_bytes
from grid.node.collect import REPORT as REPORT_ENTRY
from grid.node.finished import Finished
from grid.node.journal import Journal
from grid.node.late_intake import steps_of
from grid.node.means import Means
from grid.store.blobs import Blobs
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.message import JSON, encode
from grid.wire.node import PREKEY
from grid.wire.problems import (
    Draining,
    GridError,
    NotInvited,
    PlanRefused,
    PrekeyUnknown,
    RoundClosed,
    RunNotFound,
    Unreachable,
    UpdateRepeated,
    WorkerFailed,
    WorkerLost,
)
from grid.wire.runs import BUNDLE, MODEL, REPORT, RUN_EVENTS, UPDATE, UPDATE_HELD, After, Event, Fetch, Report, Task
from grid.worker.port import Priority, Seat, TrainJob

log = logging.getLogger(__name__)

T = TypeVar("T")

WAIT = 25.0
"""Seconds for which one long-poll stays open."""

PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0)
"""Seconds between tries to reach a coordinator that does not answer; the last one again and again."""

AWAY = 600.0
"""Seconds after which a run is given up whose coordinator does not answer; before that if its task expires."""

PASSING = (Unreachable, Draining)
"""What a coordinator that is being restarted looks like."""

TRIES = 2
"""Workers in which an assignment is begun, one after the other, before a node says that it failed."""

SETTLE = 2.0
"""Seconds that an upload has to hear its answer once the next round is open."""

BUNDLES = "plan-"
"""The plan of a run lies in a file of this name and the run's id for as long as the run goes on here."""

CALLS = frozenset({"round-opened", "spare-drawn", "evaluating"})
"""The events that ask this node to do something."""


class Participation:
    """What this node does for one run. `tensors` is the dataset's file; before a seat is asked for, `make_room`.

    `carry_out` listens to the run's events all the while: an open poll tells the coordinator that this node
    is there, and a round that closes ends the work on it at once; unless rounds are steps, which take it later as well.
    """

    def __init__(
        self,
        means: Means,
        task: Task,
        address: str,
        prekey: PrekeyPublic | None,
        tensors: Path,
        blobs: Blobs,
        journal: Journal,
        make_room: Callable[[], Awaitable[None]],
    ) -> None:
        self._means, self.task, self._address, self._prekey = means, task, address, prekey
        self._tensors, self._blobs, self._journal, self._make_room = tensors, blobs, journal, make_room
        self._peer = public_from_id(task.coordinator)
        self._seat: tuple[Seat, dict[str, Any]] | None = None
        self._scheme: Scheme
        self._finished = Finished(means.records, blobs, task.run, means.identity.id)
        self._steps = steps_of(read_strategy(task.strategy))
        self._call, self._called = (0, False), False
        self._begun = self._counted = 0
        self._bundle_path: Path
        self._turn = asyncio.Lock()
        self._found = asyncio.Event()
        self.state = "preparing"

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
            events = await self._ask(cursor)
            cursor = events[-1].cursor if events else cursor
            if any(event.kind == "run-ended" for event in events):
                return
            for event in self._newest(events, self._means.node_id):
                number = int(event.data["round"]) if _asked(event, self._means.node_id) else 0
                self._call = number, event.kind != "evaluating"
                if self._called and self._lets_finish():
                    continue  # whoever waits for the work before it to be finished will do this
                self._called = True
                self._work = group.create_task(self._do(self._work))

    async def _ask(self, cursor: int) -> list[Event]:
        query = After(cursor, WAIT)
        answer = await self._patiently(
            lambda: self._means.calls.call(self._address, RUN_EVENTS, query=query, peer=self._peer, run=self.task.run)
        )
        return list(answer.events)

    def moved(self, address: str, prekey: PrekeyPublic) -> None:
        """The coordinator is there again, perhaps elsewhere."""
        self._address, self._prekey = address, prekey
        found, self._found = self._found, asyncio.Event()
        found.set()

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the coordinator answers. It may be away for a while."""
        until = min(self._means.now() + AWAY, self.task.expires)
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            try:
                return await ask()
            except GridError as error:
                passing = isinstance(error, PASSING) or (isinstance(error, UpdateRepeated) and error.retry_after)
                if not passing or self._means.now() + pause > until:
                    raise
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._found.wait()
        raise AssertionError("unreachable")

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
            await self._report(number, Report(status="failed", reason=error.detail))
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
            await self._report(0, Report(status="failed", reason=error.detail))
            raise  # there is nothing for this node to do in the run
        await self._report(0, report)
        await self._wait()

    async def _ready(self) -> Report:
        await self._finished.recall()
        self._bundle_path = await self._patiently(self._bundle)
        plan = Plan.from_bundle(mapped(self._bundle_path))
        self._scheme = Scheme(plan, read_strategy(self.task.strategy))
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
        if await self._is_finished(number) and train:
            return
        self.state = "training" if train else "evaluating"
        async with self._sitting(Priority.TRAINING if train else Priority.EVALUATION) as (seat, _):
            await self._patiently(lambda: self._model(number, seat))
            point("after-model")
            if self.task.holdout:
                done = await seat.call("evaluate", split="held-out")
                measured = Report(status="evaluated", examples=done["examples"], metrics=done["metrics"])
                told = {"examples": measured.examples, **measured.metrics}
                self._journal.note("evaluated", round=number - 1, **told)
                await self._report(number, measured)
            if train:
                await self._train(number, seat)

    async def _is_finished(self, number: int) -> bool:
        """Whether the work of round `number` was done before this node stopped or was broken off, and is counted now.

        An update of a round before it is handed in too: that tells whether the state that belongs to it holds.
        """
        if not (waiting := self._finished.number):
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

    async def _train(self, number: int, seat: Seat) -> None:
        """Train and hand in. What the strategy keeps here goes on only with an update that was accepted."""
        point("before-fit")
        hears = self._journal.progress_of(number)
        done = await seat.call("fit", hears, round=number, seed=self.task.seed + number)
        point("after-fit")
        self._journal.note("trained", round=number, examples=done["examples"], **done["metrics"], device=seat.device)
        self.state = "uploading"
        learned = Report(
            status="trained",
            examples=done["examples"],
            metrics=done["metrics"],
            numbers=done["numbers"],
            base=done.get("base", ""),
        )
        await self._seal(number, seat, learned)
        try:
            await self._hand_in()
        except PrekeyUnknown:
            self._prekey = None
            await self._seal(number, seat, learned)
            await self._hand_in()

    async def _seal(self, number: int, seat: Seat, report: Report) -> None:
        """The update, sealed for the coordinator, on this disk."""
        head = header_bytes(self._scheme.update, {REPORT_ENTRY: encode(report, JSON).decode()})
        data = seat.outbox[: self._scheme.update.size]
        header = self._means.header("update", self.task.run, number, len(head) + len(data), self._peer)
        recipient = await self._patiently(self._recipient)
        blocks = sealed(self._means.identity, header, [head, data], recipient)
        await self._finished.keep(number, blocks, seat.state)

    async def _hand_in(self) -> None:
        """Hand in what is finished. Whatever the coordinator refuses, for good, is dropped."""
        number = self._finished.number
        try:
            await self._patiently(lambda: self._update(number))
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

    def _job(self, priority: Priority) -> TrainJob:
        return TrainJob(
            bundle=self._bundle_path,
            tensors=self._tensors,
            inputs=self.task.inputs,
            target=self.task.target,
            holdout=self.task.holdout,
            seed=self.task.seed,
            strategy=self._scheme.strategy,
            priority=priority,
            run=self.task.run,
        )

    # --- talking to the coordinator -------------------------------------------------------------------

    async def _bundle(self) -> Path:
        """The plan, checked against the digest that the scientist signed."""
        draft = self._blobs.create()
        try:
            async with self._fetched(BUNDLE, 0, "bundle") as (opener, blocks):
                async for piece in opened(opener, blocks):
                    draft.write(piece)
            if draft.digest != self.task.plan:
                raise PlanRefused("the coordinator's plan is not the one that the scientist signed")
            return await draft.commit(BUNDLES + self.task.run)
        except BaseException:
            draft.abort()
            raise

    async def _model(self, number: int, seat: Seat) -> None:
        async with self._fetched(MODEL, number, "model") as (opener, blocks):
            await open_tensors(opener, blocks, self._scheme.broadcast, seat.inbox[: self._scheme.broadcast.size])
        await seat.call("receive")

    @asynccontextmanager
    async def _fetched(
        self, endpoint: Endpoint[Fetch, Stream], number: int, kind: str
    ) -> AsyncIterator[tuple[Opener, AsyncIterator[bytes]]]:
        context = Context(run=self.task.run, round=number, kind=kind, sender=self._peer)
        opener = Opener(self._means.identity.public, self._means.prekeys.find, context, self._means.now())
        fetch = Fetch(self._means.prekeys.published())
        where = {"round": number} if "round" in endpoint.parameters else {}
        async with self._means.calls.download(
            self._address, endpoint, fetch, peer=self._peer, run=self.task.run, **where
        ) as (_, blocks):
            yield opener, blocks

    async def _report(self, number: int, report: Report) -> None:
        """Tell how it went. A coordinator that stays away, or no longer wants to know, hears it from our silence."""
        with suppress(RoundClosed, RunNotFound, *PASSING):
            if report.status == "evaluated":  # training need not wait for a coordinator that is away
                await self._say(number, report)
            else:
                await self._patiently(lambda: self._say(number, report))

    async def _recipient(self) -> PrekeyPublic:
        """The coordinator's prekey, asked for anew in the second half of its time: it makes a new one each day."""
        held, now = self._prekey, self._means.now()
        if held is None or 2 * now > held.not_before + held.not_after:
            try:
                newest = await self._means.calls.call(self._address, PREKEY, peer=self._peer)
                self._prekey = held = read_prekey(newest.prekey, self._peer, now)
            except PASSING:
                if held is None or now >= held.not_after:
                    raise
        return held

    async def _say(self, number: int, report: Report) -> None:
        try:
            await self._tell(number, report)
        except PrekeyUnknown:
            self._prekey = None
            await self._tell(number, report)

    async def _tell(self, number: int, report: Report) -> None:
        header = self._means.header("report", self.task.run, number, audience=self._peer)
        envelope = seal_message(self._means.identity, header, report, await self._recipient())
        await self._means.calls.upload(
            self._address,
            REPORT,
            once(envelope),
            length=len(envelope),
            peer=self._peer,
            run=self.task.run,
            round=number,
        )

    async def _update(self, number: int) -> None:
        calls, run, path = self._means.calls, self.task.run, self._finished.update(number)
        content = named_by(path)
        try:
            counted = await hand_in(
                calls, self._address, UPDATE, UPDATE_HELD, path, peer=self._peer, content=content, run=run, round=number
            )
            self._counted = counted.round
        except UpdateRepeated as repeated:
            if repeated.retry_after:
                raise  # its first copy is arriving at this moment
        log.info("run %s round %d: counted", self.task.run, number)  # perhaps a while ago, and the answer was lost


def _asked(event: Event, node: str) -> bool:
    """Whether a call is for a node: a round names those who were drawn, the others are its spares."""
    if event.kind == "spare-drawn":
        return bool(event.data.get("node") == node)
    return "invited" not in event.data or node in event.data["invited"]
