"""Drives one run: invites, opens rounds, closes them, publishes checkpoints, until it is over.

Every change goes through the machines of `protocol`, and is committed together with the event that tells of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Callable
from pathlib import Path
from typing import Any

from grid.client.payload import gather, open_message
from grid.crypto.envelope import Context, body_size
from grid.crypto.identity import public_from_id
from grid.learning.scheme import Scheme
from grid.learning.tensors import MAX_HEADER
from grid.node.attendance import Attendance
from grid.node.broadcast import Broadcast
from grid.node.checkpoints import UPDATES, Checkpoints
from grid.node.collect import Collect
from grid.node.inviting import invite_all
from grid.node.means import Means
from grid.node.roster import Roster, Standing
from grid.node.tally import Tally
from grid.protocol import round as rounds
from grid.protocol import run as runs
from grid.store.blobs import Blobs, Draft
from grid.wire.documents import Signed
from grid.wire.problems import (
    GridError,
    NoParticipants,
    RoundClosed,
    RunRefused,
    TensorsRefused,
    UpdateRefused,
)
from grid.wire.runs import Counted, Invite, Invited, Peer, Report, Task

log = logging.getLogger(__name__)

PATIENCE = 60.0
"""Seconds that a round waits for enough participants to be back, and an evaluation for its reports."""

SEALING = 1 << 20
"""Bytes: an envelope's preamble and signature are never more."""

REASON = 500
"""Characters of what a participant says of its troubles."""


class Over(Exception):
    """The run was stopped."""


class Drive:
    """One run at its coordinator. `carry_out` is its life; the other methods are what participants ask."""

    def __init__(
        self, means: Means, task: Task, signed: Signed, peers: tuple[Peer, ...], address: str, scheme: Scheme
    ) -> None:
        self._means, self.task, self._signed, self._address = means, task, signed, address
        self.run = runs.Run(id=task.run, rounds=task.rounds)
        self.roster = Roster(peers)
        self.attendance = Attendance(self._gone, self._back)
        self.folder = means.runs / task.run
        self._updates = Blobs(self.folder / UPDATES)
        self._scheme = scheme
        self._limit = body_size(scheme.update.size + MAX_HEADER) + SEALING
        self.checkpoints = Checkpoints(self.folder, scheme.model)
        self._collect = Collect(means, task.run, scheme, self.checkpoints, len(peers))
        self._round: rounds.Round | None = None
        self._offered: dict[int, Broadcast] = {}
        self._tally: tuple[int, Tally] = (0, Tally())
        self._pulse = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._stopping: str | None = None
        self._bytes = {"up": 0, "down": 0}
        self._judging: set[asyncio.Future[Counted]] = set()

    @property
    def owner(self) -> str:
        """Whose run it is: the key that signed its task."""
        return self._signed.signer

    # --- its life ---------------------------------------------------------------------------------

    async def carry_out(self, bundle: Path) -> None:
        """The whole run. It ends in success, failed or stopped; only cancellation leaves it otherwise."""
        try:
            await self._prepare(bundle)
            for number in range(1, self.task.rounds + 1):
                await self._hold_round(number)
        except Over:
            await self._end(runs.Stopped(self._stopping or ""))
        except GridError as error:
            await self._fail(error.detail)
        except OSError as error:
            log.exception("run %s failed", self.task.run)
            await self._fail(f"the coordinator could not go on: {error.strerror}")
        except Exception:
            log.exception("run %s broke", self.task.run)
            await self._fail("the coordinator could not go on; its log says why")
        finally:
            await self._close()

    def stop(self, reason: str) -> None:
        """End the run at the next moment in which it waits."""
        self._stopping = reason
        self._pulse.set()

    async def _prepare(self, bundle: Path) -> None:
        """Invite, hand out the plan, and wait until everybody is ready or has given up."""
        await self._move(runs.Started(), "preparing", {"invited": [e.peer.node_id for e in self.roster.entries()]})
        await self.checkpoints.write(0, self._scheme.first())
        header = self._means.header("bundle", self.task.run, 0)
        sealed = self.folder / "bundle.sealed"
        self._offered[0] = await Broadcast.seal(self._means.identity, header, bundle, sealed)
        invite = Invite(task=self._signed, coordinator_address=self._address, prekey=self._means.prekeys.published())
        await invite_all(self._means.calls, invite, [entry.peer for entry in self.roster.entries()], self._answered)
        await self._until(lambda: not self.roster.keys(Standing.INVITED, Standing.PREPARING), within=self.task.deadline)
        ready = self.roster.keys(Standing.READY)
        if len(ready) < self.task.quorum.minimum:
            raise NoParticipants(
                f"{len(ready)} nodes are ready, the quorum is {self.task.quorum.minimum}. {self.roster.reasons()}"
            )
        await self._move(runs.Prepared(), "prepared", {"ready": len(ready)})

    async def _hold_round(self, number: int) -> None:
        """One round, from opening to checkpoint; after the last, its checkpoint is evaluated as well."""
        began = self._means.now()
        self._bytes = {"up": 0, "down": 0}
        await self._open_round(number)
        await self._until(lambda: self._state() in {rounds.AGGREGATING, rounds.INVALID})
        await self._conclude_tally()
        closed = self._the_round()
        if closed.state == rounds.INVALID:
            raise NoParticipants(f"round {number}: {closed.reason}. {self._reasons(closed)}")
        self._advance(runs.RoundCollected(number))
        model, state = await self._collect.result()
        await self.checkpoints.write(number, [model], state)
        self._apply(rounds.SumReady())
        self._offered.pop(number).discard()
        told = {
            "round": number,
            "state": self._state().value,
            "accepted": len(closed.accepted),
            "examples": sum(closed.accepted.values()),
            "rejected": self.roster.named(closed.rejected),
            "failed": self.roster.named(closed.failed),
            "seconds": self._means.now() - began,
            "bytes": dict(self._bytes),
        }
        last = number == self.task.rounds
        if not last:
            self._advance(runs.RoundCompleted(number))
        await self._means.records.round_closed(self._the_round(), self.run, self.checkpoints.path(number), told)
        self._collect.discard()
        if last:
            await self._evaluate(number + 1)
            await self._move(runs.RoundCompleted(number))
            await self._tell_end()

    async def _open_round(self, number: int) -> None:
        quorum = self.task.quorum
        await self._collect.begin(number)
        await self._offer(number)
        await self._until(lambda: len(self._present()) >= quorum.minimum, within=PATIENCE)
        present = self._present()  # from here to `open_round` nothing waits, so nobody leaves unnoticed
        if len(present) < quorum.minimum:
            raise NoParticipants(
                f"{len(present)} nodes are there, the quorum is {quorum.minimum}. {self.roster.reasons()}"
            )
        target = min(quorum.target or len(present), len(present))
        policy = rounds.Policy(quorum.minimum, max(target, quorum.minimum), self.task.deadline)
        self._round = rounds.open_round(number, policy, present, self._means.now())
        self._wake_at(self._round.ends)
        told = {
            "round": number,
            "ends": self._round.ends,
            "invited": [self.roster.name(key) for key in sorted(present)],
        }
        await self._means.records.round_opened(self._round, self.task.run, told)

    async def _evaluate(self, number: int) -> None:
        """Let everybody measure the newest checkpoint on its held-out examples."""
        if not self.task.holdout:
            return
        await self._offer(number)
        await self._means.records.say(self.task.run, "evaluating", {"round": number}, to_all=True)
        await self._until(lambda: self._present() <= self._tally[1].heard, within=min(PATIENCE, self.task.deadline))
        await self._conclude_tally()
        self._offered.pop(number).discard()

    async def _offer(self, number: int) -> None:
        """Seal the newest checkpoint, once, for whoever takes part in round `number`."""
        header = self._means.header("model", self.task.run, number)
        target = self.folder / f"model-{number}.sealed"
        self._tally = (number, Tally())
        self._offered[number] = await Broadcast.seal(
            self._means.identity, header, self.checkpoints.path(number - 1), target
        )

    async def _answered(self, peer: Peer, answer: Invited | GridError) -> None:
        """What came of an invitation."""
        if isinstance(answer, GridError):
            await self._stand(peer.public_key, Standing.FAILED, answer.detail)
            return
        entry = self.roster[peer.public_key]
        if entry.standing == Standing.INVITED:
            entry.examples = answer.examples
            self.attendance.expect(peer.public_key)
            await self._stand(peer.public_key, Standing.PREPARING)

    # --- what participants ask ------------------------------------------------------------------------

    def offered(self, number: int, key: str) -> Broadcast:
        """The sealed payload of a round (0: the plan), for a participant that thereby commits to it.

        Raises:
            NotInvited, RoundClosed
        """
        self.roster[key]
        if number not in self._offered:
            raise RoundClosed(f"round {number} is not open")
        if self._round is not None and number == self._round.number:
            rounds.admit_commit(self._round, key)
            self._apply(rounds.NodeCommitted(key))
        self._bytes["down"] += self._offered[number].size
        return self._offered[number]

    async def report(self, number: int, key: str, blocks: AsyncIterable[bytes], limit: int) -> None:
        """Hear how a participant fares: ready, evaluated, or failed."""
        entry = self.roster[key]
        context = Context(run=self.task.run, round=number, kind="report", sender=public_from_id(key), direct=True)
        envelope = await gather(blocks, limit)
        report = open_message(
            envelope, Report, self._means.identity.public, self._means.prekeys.find, context, self._means.now()
        )
        if report.status == "ready" and number == 0 and not entry.ready:
            entry.ready, entry.examples = True, report.examples
            await self._stand(key, Standing.READY)
        elif report.status == "failed":
            await self._give_up(number, key, report.reason[:REASON])
        elif report.status == "evaluated" and number == self._tally[0]:
            self._tally[1].add(key, report.metrics, report.examples)
            self._pulse.set()

    async def take(self, number: int, key: str, blocks: AsyncIterable[bytes]) -> Counted:
        """Take an update: it is on disk and its row committed when this returns.

        Raises:
            NotInvited, RoundClosed, UpdateRepeated, UpdateRefused, EnvelopeRefused, PrekeyUnknown
            TooLarge: longer than any update of this model.
        """
        self.roster[key]
        if self._round is None or self._round.number != number:
            raise RoundClosed(f"round {number} is not open")
        now = self._means.now()
        rounds.admit_update(self._round, key, now)
        draft = self._updates.create(self._limit)
        self._apply(rounds.UploadBegan(key, now))
        try:
            async for block in blocks:
                draft.write(block)
            self._apply(rounds.UploadArrived(key))
        except BaseException:
            self._break_off(number, key, draft)
            raise
        # From here on the caller may go away: what it sent is judged all the same.
        judging = asyncio.ensure_future(self._judge(number, key, draft))
        self._judging.add(judging)
        judging.add_done_callback(self._judging.discard)
        return await asyncio.shield(judging)

    async def _judge(self, number: int, key: str, draft: Draft) -> Counted:
        try:
            async with self._collect.turn:
                report = await self._checked(number, key, draft)
                rounds.admit_result(self._the_round(), key)
                return await self._count(number, key, draft, report)
        except BaseException:
            self._break_off(number, key, draft)
            raise

    async def _checked(self, number: int, key: str, draft: Draft) -> Report:
        try:
            report = await self._collect.check(draft.path, public_from_id(key))
            announced = self.roster[key].examples
            if report.examples > announced:
                raise UpdateRefused(f"it claims {report.examples} examples, where {announced} were announced")
        except (TensorsRefused, UpdateRefused) as error:
            await self._reject(number, key, error.detail)
            raise UpdateRefused(error.detail) from None
        return report

    async def _count(self, number: int, key: str, draft: Draft, report: Report) -> Counted:
        at, weight = self._means.now(), float(report.examples)
        path = await draft.commit(f"{number}-{key}")
        told = {"round": number, "node": self.roster.name(key), "examples": report.examples, "metrics": report.metrics}
        await self._means.records.update_accepted(self.task.run, number, key, weight, path, told)
        self._bytes["up"] += draft.size
        self._apply(rounds.UpdateAccepted(key, weight, at))
        await self._collect.fold(path, public_from_id(key), report)
        return Counted(round=number, at=at)

    def _break_off(self, number: int, key: str, draft: Draft) -> None:
        draft.abort()
        if self._the_round().number == number and key in self._the_round().uploading:
            self._apply(rounds.UploadBroken(key))

    # --- changes --------------------------------------------------------------------------------------

    def _apply(self, event: object) -> None:
        """The one way in which the round changes."""
        self._round, effects = rounds.advance(self._the_round(), event)
        for effect in effects:
            if isinstance(effect, rounds.WakeAt):
                self._wake_at(effect.at)
        self._pulse.set()

    def _advance(self, event: object) -> None:
        """The one way in which the run changes. What comes next writes it down."""
        self.run, _ = runs.advance(self.run, event)

    async def _move(self, event: object, kind: str = "", told: dict[str, Any] | None = None) -> None:
        """Change the run, and write it down."""
        self._advance(event)
        await self._means.records.moved(self.run, kind, told or {})

    async def _reject(self, number: int, key: str, reason: str) -> None:
        self._apply(rounds.UpdateRejected(key, reason))
        told = {"round": number, "node": self.roster.name(key), "reason": reason}
        await self._means.records.assignment_failed(self.task.run, number, key, "rejected", reason, told)

    async def _give_up(self, number: int, key: str, reason: str) -> None:
        """A participant cannot go on: in this round, or in the run when it could not even prepare."""
        if number == 0:
            await self._stand(key, Standing.FAILED, reason)
        if number == self._tally[0]:
            self._tally[1].pass_over(key)
            self._pulse.set()
        if self._round is None or number not in {0, self._round.number}:
            return
        self._fail_node(key, reason)
        if number and key in self._round.failed:  # what it says after it was counted changes nothing
            told = {"round": number, "node": self.roster.name(key), "reason": reason}
            await self._means.records.assignment_failed(self.task.run, number, key, "failed", reason, told)

    async def _stand(self, key: str, standing: Standing, reason: str = "") -> None:
        entry = self.roster.put(key, standing, reason)
        self._pulse.set()
        told = {"node": entry.peer.node_id, "state": standing.value, "reason": reason, "examples": entry.examples}
        await self._means.records.say(self.task.run, "participant", told)

    def _gone(self, key: str) -> None:
        """Its polls have stayed away: do not wait for it."""
        if self.roster[key].standing in {Standing.PREPARING, Standing.READY}:
            self.roster.put(key, Standing.GONE, "it stopped listening")
        self._fail_node(key, "it stopped listening")
        self._pulse.set()

    def _back(self, key: str) -> None:
        entry = self.roster[key]
        if entry.standing == Standing.GONE:
            self.roster.put(key, Standing.READY if entry.ready else Standing.PREPARING)
        self._pulse.set()

    def _fail_node(self, key: str, reason: str) -> None:
        running = self._round is not None and rounds.ROUND.takes(self._round, rounds.NodeFailed)
        if running and key in self._the_round().invited:
            self._apply(rounds.NodeFailed(key, reason))

    async def _conclude_tally(self) -> None:
        """Tell how the checkpoint before this round did, as far as it was reported."""
        number, tally = self._tally
        self._tally = (0, Tally())
        if tally.nodes:
            told = {
                "round": number - 1,
                "metrics": tally.means(),
                "examples": tally.examples,
                "nodes": len(tally.nodes),
            }
            await self._means.records.say(self.task.run, "evaluated", told)

    # --- ending ---------------------------------------------------------------------------------------

    async def _fail(self, reason: str) -> None:
        if self.run.state == runs.PREPARING:
            await self._end(runs.PreparationFailed(reason))
        else:
            await self._end(runs.RoundInvalid(self.run.current, reason))

    async def _end(self, event: object) -> None:
        await self._move(event)
        await self._tell_end()

    async def _tell_end(self) -> None:
        told = {"state": self.run.state.value, "reason": self.run.reason}
        await self._means.records.say(self.task.run, "run-ended", told, to_all=True)

    async def _close(self) -> None:
        self.attendance.close()
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._judging, return_exceptions=True)
        for offered in self._offered.values():
            offered.discard()
        await self._collect.close()
        self.checkpoints.sweep()

    # --- waiting --------------------------------------------------------------------------------------

    async def _until(self, holds: Callable[[], bool], within: float | None = None) -> None:
        """Wait until something holds, at most `within` seconds. Raises Over when the run is stopped."""
        try:
            async with asyncio.timeout(within):
                while not holds():
                    if self._stopping is not None:
                        raise Over
                    self._pulse.clear()
                    await self._pulse.wait()
        except TimeoutError:
            return

    def _wake_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0.0, at - self._means.now())
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        if self._round is not None and rounds.ROUND.takes(self._round, rounds.DeadlinePassed):
            self._apply(rounds.DeadlinePassed(max(self._means.now(), self._round.ends)))

    # --- small questions --------------------------------------------------------------------------------

    def _the_round(self) -> rounds.Round:
        if self._round is None:
            raise RunRefused("no round was opened yet")
        return self._round

    def _state(self) -> rounds.State:
        return self._the_round().state

    def _present(self) -> frozenset[str]:
        return frozenset(key for key in self.roster.keys(Standing.READY) if self.attendance.here(key))

    def _reasons(self, closed: rounds.Round) -> str:
        return "; ".join(
            f"{node}: {why}" for node, why in self.roster.named({**closed.rejected, **closed.failed}).items()
        )
