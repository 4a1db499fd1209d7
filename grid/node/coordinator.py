"""The coordinator: takes tasks from scientists and drives their runs."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from grid.client.payload import mapped, read_prekey, sealed, sealed_size
from grid.crypto.envelope import Context
from grid.crypto.identity import public_from_id
from grid.crypto.sealing import Opener
from grid.learning.layouts import MASKED_METRICS
from grid.learning.plan import Plan
from grid.learning.scheme import Scheme
from grid.learning.strategy import Masked, least_updates, read_strategy
from grid.learning.study import Study, read_bundle
from grid.node.broadcast import Broadcast
from grid.node.checkpoints import BUNDLE, PLAN, sweep
from grid.node.drive import Drive
from grid.node.late_intake import steps_of
from grid.node.means import Means
from grid.node.opening import Opening
from grid.node.releasing import Keeper
from grid.node.resuming import broken_off, peers_of
from grid.node.sealed_once import SealedOnce
from grid.node.summing import Summing
from grid.protocol.documents import read_document
from grid.store.blobs import Blobs
from grid.transport.auth import Caller
from grid.transport.partial import Partials, proved
from grid.transport.parts import Parts
from grid.wire.directory import Prekey
from grid.wire.documents import Signed
from grid.wire.problems import Full, GridError, NotAllowed, PlanRefused, RunNotFound, RunRefused, SumRefused
from grid.wire.ranges import WHOLE, Held, Piece
from grid.wire.runs import (
    TASK,
    After,
    Counted,
    Events,
    Fetch,
    FetchCheckpoint,
    Measured,
    NodeMetrics,
    RunInfo,
    RunList,
    Since,
    StartRun,
    Task,
)

log = logging.getLogger(__name__)

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]


MOST = 16
"""Runs that one node drives at once: each holds a sum in a seat of its own."""


class Coordinator:
    """The runs that this node drives. `address` is where participants reach it; `most` runs go on at once."""

    def __init__(self, means: Means, blobs: Blobs, address: Callable[[], str], spawn: Spawn, most: int = MOST) -> None:
        self._means, self._blobs, self._address, self._spawn, self._most = means, blobs, address, spawn, most
        self._live: dict[str, Drive] = {}
        self._partials: Partials[Opening] = Partials()
        self._sealed = SealedOnce(blobs)
        self.held = Keeper(means)
        self._handed_in: set[str] = set()
        self._driving: dict[str, asyncio.Task[None]] = {}
        self._resumed: list[tuple[Drive, Path]] = []

    # --- a restart ------------------------------------------------------------------------------

    async def resume(self) -> None:
        """Take up the runs that had not ended when this node stopped; nothing of them goes on before `go_on`."""
        for left in await self._means.records.unfinished():
            bundle = self._blobs.named(BUNDLE + left.bundle)
            try:
                task = read_document(left.signed, Task, TASK)
                scheme = self._scheme(task, bundle)
                drive = Drive(self._means, task, left.signed, peers_of(left), self._address, scheme, left)
            except (GridError, OSError) as error:
                why = error.detail if isinstance(error, GridError) else f"its plan: {error.strerror}"
                log.warning("run %s cannot go on: %s", left.run.id, why)
                await self._means.records.ended(broken_off(left.run, f"the coordinator was restarted: {why}"))
            else:
                self._live[task.run] = drive
                self._resumed.append((drive, bundle))
        kept = {bundle for _, bundle in self._resumed}
        for path in self._blobs.named(BUNDLE + "x").parent.glob(BUNDLE + "*"):
            if path not in kept:
                path.unlink()
        for folder in self._means.runs.glob("*"):
            if folder.name not in self._live:
                sweep(folder)

    def go_on(self) -> None:
        """This node answers again: the runs that were taken up go on."""
        for drive, bundle in self._resumed:
            self._begin(drive, bundle)
        self._resumed.clear()

    async def stop_all(self, reason: str, within: float = 5.0) -> None:
        """Stop every run, so that its participants do not wait: this node will not be back."""
        self._partials.close()
        self._sealed.close()
        for drive in self._live.values():
            drive.stop(reason)
        if self._driving:
            await asyncio.wait(self._driving.values(), timeout=within)

    # --- what scientists ask --------------------------------------------------------------------

    def bundle_held(self, caller: Caller, piece: Piece) -> Held:
        """How much of a bundle arrived before its connection broke. Raises NotAllowed."""
        self._may_run(caller)
        return self._partials.held(key_of(caller), piece.content)

    async def put_bundle(self, digest: str, caller: Caller, blocks: AsyncIterable[bytes], piece: Piece = WHOLE) -> None:
        """Keep a scientist's bundle, sealed to this node, under its digest.

        Raises:
            NotAllowed, EnvelopeRefused, PrekeyUnknown
            PlanRefused: it is not the bundle that its digest names.
            PartMismatch: the rest of another beginning than the one that is here.
        """
        self._may_run(caller)
        opening = self._partials.take(key_of(caller), piece) or self._opening(caller)
        try:
            await opening.take(blocks)
        except BaseException as error:
            self._partials.keep(key_of(caller), piece, opening, error)
            raise
        try:
            proved(piece, opening)
            if opening.draft.digest != digest:
                raise PlanRefused("the bundle is not the one that its digest names")
            await opening.draft.commit(BUNDLE + digest)
            self._handed_in.add(digest)
        except BaseException:
            opening.abort()
            raise

    async def hold(self, plan: Plan | Study) -> None:
        """Keep the bundle of a plan, or a question, of this node's own, for a run to come."""
        draft = self._blobs.create()
        await asyncio.to_thread(draft.write, plan.bundle())
        await draft.commit(BUNDLE + plan.digest)
        self._handed_in.add(plan.digest)

    def _opening(self, caller: Caller) -> Opening:
        context = Context(run="", round=0, kind="bundle", sender=caller.public, direct=True)
        opener = Opener(self._means.identity.public, self._means.prekeys.find, context, self._means.now())
        return Opening(opener, self._blobs.create())

    async def start(self, message: StartRun, caller: Caller) -> RunInfo:
        """Take up a run.

        Raises:
            NotAllowed, BadSignature, Replayed
            RunRefused, PlanRefused, StrategyRefused, Full: with the reason.
            KeyChanged: this node knows one of the peers by another key.
        """
        self._may_run(caller)
        task = read_document(message.task, Task, TASK, now=self._means.now(), signer=caller.id)
        self._check(task, message)
        bundle = self._blobs.named(BUNDLE + task.plan)
        scheme = self._scheme(task, bundle)
        await self._means.peers.meet((peer.node_id, peer.public_key) for peer in message.peers)
        await self._means.records.created(task, message.task, message.peers)
        drive = self._live[task.run] = Drive(self._means, task, message.task, message.peers, self._address, scheme)
        self._handed_in.discard(task.plan)
        with suppress(FileExistsError):
            os.link(bundle, drive.folder / PLAN)
        self._begin(drive, bundle)
        return self._info(drive)

    async def runs(self, caller: Caller) -> RunList:
        """The caller's runs, newest first; for the owner of this node, all."""
        rows = await self._means.records.runs(None if caller.owner else caller.id)
        return RunList(tuple(self._info(self._live[row.run]) if row.run in self._live else row for row in rows))

    async def info(self, run: str, caller: Caller) -> RunInfo:
        """One run. Raises RunNotFound for everybody but its owner and this node's."""
        row = await self._owned(run, caller)
        return self._info(self._live[run]) if run in self._live else row

    async def stop(self, run: str, caller: Caller) -> RunInfo:
        """Stop a run; its checkpoints stay."""
        row = await self._owned(run, caller)
        if run not in self._live:
            return row
        drive = self._live[run]
        drive.stop(f"stopped by {'its owner' if caller.id == drive.owner else 'the owner of the coordinator'}")
        return self._info(self._live[run])

    async def events(self, run: str, caller: Caller, after: After) -> Events:
        """What happened after a cursor: everything for the run's owner, the calls to all for a participant."""
        drive = self._live.get(run)
        if drive is not None and caller.id is not None and caller.id in drive.roster:
            with drive.attendance.poll(caller.id):
                return await self._means.records.events(run, after, to_all=True)
        if drive is None or not (caller.owner or caller.id == drive.owner):
            await self._owned(run, caller)
        return await self._means.records.events(run, after, to_all=False)

    async def checkpoint(self, run: str, caller: Caller, fetch: FetchCheckpoint) -> Parts:
        """The newest checkpoint or that of a round, sealed to the caller.

        Raises:
            RunNotFound: no such run, not the caller's, or without such a checkpoint.
            NotReleased: it is held, and somebody has not released it.
        """
        await self._owned(run, caller)
        await self.held.check(run)
        path = await self._means.records.checkpoint(run, fetch.round)
        if path is None:
            which = f"the checkpoint of round {fetch.round} is not kept here" if fetch.round else ""
            raise RunNotFound(which or "this run has no checkpoint yet")
        return await self._own("checkpoint", run, fetch.round, path, caller, fetch.prekey)

    async def task(self, run: str, caller: Caller) -> Signed:
        """The task of a run, as its owner signed it. Raises RunNotFound."""
        await self._owned(run, caller)
        return await self._means.records.task(run)

    async def plan(self, run: str, caller: Caller, fetch: Fetch) -> Parts:
        """The plan that a run began with, sealed to the caller. Raises RunNotFound."""
        await self._owned(run, caller)
        path = self._means.runs / run / PLAN
        if not path.exists():
            raise RunNotFound("the plan of this run is not kept here")
        return await self._own("bundle", run, 0, path, caller, fetch.prekey)

    async def metrics(self, run: str, caller: Caller, since: Since) -> Measured:
        """What each node measured, for the owners of the run and of this node. Raises RunNotFound."""
        await self._owned(run, caller)
        names = await self._means.records.names(run)
        rows = await self._means.records.reports(run, since.round)
        told = [NodeMetrics(r.round, names[r.node], r.examples, r.metrics) for r in rows if r.node in names]
        return Measured(tuple(whole_rounds(told)))

    # --- what participants ask --------------------------------------------------------------------

    async def offered(self, run: str, number: int, caller: Caller, fetch: Fetch) -> Parts:
        """The plan (round 0) or a round's model, sealed to the caller."""
        drive = await self._driven(run)
        key = key_of(caller)
        prekey = read_prekey(fetch.prekey, public_from_id(key), self._means.now())
        broadcast: Broadcast = drive.offered(number, key)

        def read(begin: int, end: int) -> AsyncIterator[bytes]:
            drive.sent += end - begin
            return broadcast.envelope(prekey, begin, end)

        return Parts(broadcast.tag(prekey), broadcast.size, read)

    async def report(self, run: str, number: int, caller: Caller, blocks: AsyncIterable[bytes], limit: int) -> None:
        """Hear a participant's report."""
        await (await self._driven(run)).report(number, key_of(caller), blocks, limit)

    async def update(
        self, run: str, number: int, caller: Caller, blocks: AsyncIterable[bytes], piece: Piece = WHOLE
    ) -> Counted:
        """Take a participant's update."""
        drive = await self._driven(run)
        return await drive.take(number, key_of(caller), blocks, piece)

    async def summing(self, run: str) -> Summing:
        """The secure sums of a run. Raises RunNotFound, SumRefused."""
        drive = await self._driven(run)
        if drive.summing is None:
            raise SumRefused("the updates of this run are not masked")
        return drive.summing

    async def update_held(self, run: str, caller: Caller, piece: Piece) -> Held:
        """How much of a participant's update arrived before its connection broke."""
        return (await self._driven(run)).held(key_of(caller), piece)

    # --- its own ------------------------------------------------------------------------------------

    def drives(self, run: str) -> bool:
        """Whether a run goes on here."""
        return run in self._live

    async def gone(self, run: str) -> None:
        """Wait until a run does not go on here."""
        if driving := self._driving.get(run):
            await asyncio.wait([driving])

    def running(self) -> dict[str, int]:
        """How many runs are in which state."""
        states = [drive.run.state.value for drive in self._live.values()]
        return {state: states.count(state) for state in states}

    async def _own(self, kind: str, run: str, number: int, path: Path, caller: Caller, prekey: Prekey) -> Parts:
        """A file of a run, sealed to a caller whose run it is."""
        if caller.public is None:
            raise NotAllowed("what is sealed is sealed to a key: sign in with one")
        to = read_prekey(prekey, caller.public, self._means.now())
        header = self._means.header(kind, run, number, path.stat().st_size, caller.public)
        envelope = sealed(self._means.identity, header, [mapped(path)], to)
        return await self._sealed.parts(path, to, envelope, sealed_size(header))

    def _begin(self, drive: Drive, bundle: Path) -> None:
        run, driving = drive.task.run, self._spawn(self._carry_out(drive, bundle))
        self._driving[run] = driving
        driving.add_done_callback(lambda _: self._driving.pop(run))

    async def _carry_out(self, drive: Drive, bundle: Path) -> None:
        try:
            await drive.carry_out(bundle)
        except Exception:
            log.exception("run %s broke", drive.task.run)
        finally:
            del self._live[drive.task.run]
            if drive.over:
                self._forget(drive.task.plan, bundle)

    def _forget(self, plan: str, bundle: Path) -> None:
        """Remove a bundle, unless another run uses it, or it was handed in again for one to come."""
        if plan not in self._handed_in and all(drive.task.plan != plan for drive in self._live.values()):
            bundle.unlink(missing_ok=True)

    def _check(self, task: Task, message: StartRun) -> None:
        if task.coordinator != self._means.identity.id:
            raise RunRefused("the task names another coordinator")
        if len({peer.public_key for peer in message.peers}) != len(message.peers):
            raise RunRefused("a peer is named twice")
        if task.stop is not None and not task.holdout:
            raise RunRefused("a rule for stopping needs examples that are held out")
        if len(message.peers) < task.quorum.minimum:
            raise RunRefused(f"{len(message.peers)} peers cannot make a quorum of {task.quorum.minimum}")
        wanted = max(task.quorum.minimum, task.quorum.target)
        if 0 < task.quorum.drawn < wanted:
            raise RunRefused(f"{task.quorum.drawn} nodes drawn cannot hand in {wanted} updates")
        if len(self._live) >= self._most:
            raise Full(f"{self._most} runs go on here already", retry_after=60.0)
        if not self._blobs.named(BUNDLE + task.plan).exists():
            raise RunRefused("the plan was not handed in; put its bundle first")

    @staticmethod
    def _scheme(task: Task, bundle: Path) -> Scheme:
        """The plan under its strategy, if this coordinator can drive it with these quorums."""
        strategy = read_strategy(task.strategy)
        if task.quorum.minimum < (least := least_updates(strategy)):
            raise RunRefused(f"the strategy needs {least} updates; a quorum of {task.quorum.minimum} is too small")
        if task.quorum.drawn and steps_of(strategy):
            raise RunRefused("the strategy's steps wait for nobody: they draw nobody, all who are there take part")
        if task.quorum.drawn and strategy.masked:
            raise RunRefused("nobody can be drawn into a secure sum that has begun: all who are there take part")
        plan = read_bundle(mapped(bundle))
        if isinstance(plan, Study) and task.rounds < plan.rounds:
            raise RunRefused(f"the answer may take {plan.rounds} rounds, not {task.rounds}")
        scheme = Scheme(plan, strategy)
        if task.stop is not None and task.stop.metric not in scheme.metrics:
            raise RunRefused(f"nobody measures {task.stop.metric}; the plan has {', '.join(scheme.metrics) or 'none'}")
        if task.stop is not None and isinstance(strategy.upload, Masked) and strategy.upload.noisy:
            raise RunRefused("a rule for stopping needs metrics, and where sums are noised nothing is measured")
        if strategy.masked and len(scheme.metrics) > MASKED_METRICS - 3:
            raise RunRefused(f"under masks a node tells of up to {MASKED_METRICS - 3} metrics")
        return scheme

    def _may_run(self, caller: Caller) -> None:
        if caller.public is None:
            raise NotAllowed("a run is started by whoever signed its task: sign in with a key")
        self._means.peers.refuse_revoked(caller.id)
        if not caller.owner:
            self._means.access.may_train(caller.id)

    async def _owned(self, run: str, caller: Caller) -> RunInfo:
        row = await self._means.records.run(run, None if caller.owner else caller.id)
        if row is None:
            raise RunNotFound
        return row

    async def _driven(self, run: str) -> Drive:
        """The run, once it is up: it may have been interrupted a moment ago."""
        try:
            drive = self._live[run]
        except KeyError:
            raise RunNotFound("this run is not going on here") from None
        await drive.up.wait()
        return drive

    @staticmethod
    def _info(drive: Drive) -> RunInfo:
        return RunInfo(
            run=drive.task.run,
            state=drive.run.state.value,
            round=drive.run.current,
            rounds=drive.task.rounds,
            created=drive.task.created,
            reason=drive.run.reason,
            participants=tuple(entry.info() for entry in drive.roster.entries()),
        )


def whole_rounds(reports: list[NodeMetrics], most: int = 10_000) -> Iterator[NodeMetrics]:
    """The first rounds of what was measured, each whole: one, and more while the reports are at most `most`."""
    count = 0
    for _, of_round in groupby(reports, key=lambda report: report.round):
        told = list(of_round)
        if count and count + len(told) > most:
            return
        count += len(told)
        yield from told


def key_of(caller: Caller) -> str:
    """The key of a caller that has one. Raises NotAllowed."""
    if caller.id is None:
        raise NotAllowed("participants sign in with their key")
    return caller.id
