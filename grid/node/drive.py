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
from grid.crypto.envelope import Context
from grid.crypto.identity import public_from_id
from grid.faults import point
from grid.learning.said import Summed
from grid.learning.scheme import Scheme
from grid.learning.strategy import Masked
from grid.node.broadcast import Broadcast
from grid.node.checkpoints import UPDATES, Checkpoints
from grid.node.cohort import PATIENCE, Cohort, write_down
from grid.node.collect import SUM, Collect
from grid.node.course import Course
from grid.node.evaluation import Evaluation
from grid.node.late_intake import intake_of, steps_of
from grid.node.lift import Lift
from grid.node.means import Means
from grid.node.muster import Muster
from grid.node.offers import Offers
from grid.node.pulse import Over
from grid.node.records import Unfinished
from grid.node.resuming import interrupted_round, recall, tidy
from grid.node.roster import Roster, Standing
from grid.node.summing import Summing
from grid.protocol import round as rounds
from grid.protocol import run as runs
from grid.protocol.pace import learned_deadline
from grid.protocol.staleness import step_policy
from grid.wire.documents import Signed
from grid.wire.problems import (
    GridError,
    NoParticipants,
    RoundClosed,
    RunRefused,
)
from grid.wire.ranges import WHOLE, Held, Piece
from grid.wire.runs import Counted, Peer, Report, Task

log = logging.getLogger(__name__)

SUMS = 5
"""Secure sums that are begun for one round, one after the other."""

REASON = 500
"""Characters of what a participant says of its troubles."""


class Drive:
    """One run at its coordinator. `carry_out` is its life; the other methods are what participants ask.

    `owner` is the key that signed its task; `left` is what a coordinator that was restarted found of it; participants
    may ask once it is `up`.
    """

    def __init__(
        self,
        means: Means,
        task: Task,
        signed: Signed,
        peers: tuple[Peer, ...],
        address: Callable[[], str],
        scheme: Scheme,
        left: Unfinished | None = None,
    ) -> None:
        self._means, self.task, self._left = means, task, left
        self.owner = signed.signer
        self._course = Course(left.run if left else runs.Run(id=task.run, rounds=task.rounds), means.now)
        self.roster = Roster(peers)
        self.up = asyncio.Event()
        self._cohort = Cohort(task, self._course, self.roster)
        self.attendance = self._cohort.attendance
        self._muster = Muster(means, task, signed, address, self._course, self.roster, self._cohort)
        self.folder = means.runs / task.run
        self._scheme = scheme
        self.checkpoints = Checkpoints(self.folder, scheme.model)
        self._collect = Collect(means, task.run, scheme, self.checkpoints, len(peers))
        self._intake = intake_of(
            means, task.run, self._course, self.roster, self._collect, self.folder / UPDATES, scheme
        )
        self._offers = Offers(means, task.run, self.folder, self.checkpoints, self._collect)
        self._evaluation = Evaluation(means.records, task, self.checkpoints)
        rule = scheme.strategy.upload
        self.summing = Summing(task, rule, scheme.masked_numbers) if isinstance(rule, Masked) else None
        if self.summing is not None:
            self._course.lost = self.summing.lost
        self._inside = 0.0
        self._asking: asyncio.Task[None] | None = None
        self.sent = self._intake.received = 0

    @property
    def run(self) -> runs.Run:
        """Where the run stands."""
        return self._course.run

    @property
    def over(self) -> bool:
        """Whether it has ended. A run that this node stops with goes on when the node is back."""
        return runs.RUN.final(self.run.state)

    # --- its life ---------------------------------------------------------------------------------

    async def carry_out(self, bundle: Path) -> None:
        """The whole run. It ends in success, failed or stopped; only cancellation leaves it otherwise."""
        try:
            await self._begin(bundle)
            while self._course.run.state == runs.RUNNING:
                await self._hold_round(self._course.run.current)
            await self._evaluate(self._course.run.current + 1)
            await self._end(self._evaluation.ending(self._course.run))
        except Over:
            await self._end(runs.Stopped(self._course.pulse.reason or ""))
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
        self._course.pulse.stop(reason)

    async def _begin(self, bundle: Path) -> None:
        """Prepare the run, or go on where it was interrupted."""
        if self._course.run.state == runs.STANDBY:
            self._course.advance(runs.Started())
        if self.task.expires <= self._means.now():
            raise RunRefused("its task expired while the coordinator was away")
        if self._left is not None:
            recall(self.roster, self._left)
            await self._evaluation.recall()
            if self.summing is not None:
                self.summing.clipping.recall(await self._means.records.told(self.task.run, "round-closed"))
        if self._course.run.state == runs.PREPARING:
            await self.checkpoints.write(0, self._scheme.first())
            self._scheme.let_go()  # the memory of a run is its sum and the update at hand
        await self._offers.plan(bundle)
        lost = self._left.round.failed if self._left is not None and self._left.round is not None else {}
        for key in self.roster.keys(Standing.READY) - lost.keys():  # who was lost is there once it listens
            self.attendance.expect(key)
        if self._course.run.state == runs.PREPARING:
            self.up.set()
            await self._muster.prepare()
        elif self._left is not None:
            await self._resume(self._left)

    async def _resume(self, left: Unfinished) -> None:
        """Go on with the round that was interrupted: what was counted is in its sum again, its model sealed anew."""
        number = self._course.run.current
        self._course.round = interrupted_round(left, self._means.now())
        tidy(self.folder, [path for path, *_ in left.updates if self._course.round] + [self.folder / "bundle.sealed"])
        if self._course.round is not None and self.summing is not None:
            tidy(self.folder, [])
            await self._means.records.round_broken(self.task.run, number, "the coordinator was restarted")
            self._course.round = None
        if self._course.round is not None:
            await self._collect.begin(number, left.updates)
            await self._offer(number)
            await self._means.records.prolonged(self._course.round, self.task.run)
            self._course.apply(rounds.Resumed())
            self._cohort.fill()
        await self._means.records.say(self.task.run, "run-resumed", {"round": number}, to_all=True)
        self._asking = asyncio.ensure_future(self._muster.invite(self._muster.heard_again))
        self.up.set()

    async def _hold_round(self, number: int) -> None:
        """One round, from opening to checkpoint; after the last, its checkpoint is evaluated as well."""
        began = self._means.now()
        self.sent = self._intake.received = 0
        closed, lift = await self._gathered(number)
        self._course.advance(runs.RoundCollected(number))
        model, state, examples = await self._result(closed, lift)
        point("before-checkpoint")
        await self._keep(number, model, state)
        point("after-checkpoint")
        self._course.apply(rounds.SumReady())
        self._offers.withdraw(number)
        told = {
            "round": number,
            "state": self._course.state.value,
            "accepted": len(closed.accepted),
            "examples": examples,
            "rejected": self.roster.named(closed.rejected),
            "failed": self.roster.named(closed.failed),
            "seconds": self._means.now() - began,
            "bytes": {"up": self._intake.received, "down": self.sent},
            **self._spent(number),
            "staleness": {self.roster.name(key): old for key, old in self._collect.staleness().items()},
        }
        if not (self._collect.done or self._evaluation.is_last(number)):  # the last is complete once it was evaluated
            self._course.advance(runs.RoundCompleted(number))
        await self._means.records.round_closed(
            self._course.the_round, self._course.run, self.checkpoints.path(number), told
        )
        point("after-round-closed")
        if self.summing is not None:
            self.summing.clipping.closed(number, self._inside)
        self._intake.discard()

    def _spent(self, number: int) -> dict[str, Any]:
        """What the run costs each of its nodes in privacy by now, where its sums are noised."""
        cost = self.summing.clipping.cost(number, self._inside) if self.summing is not None else {}
        return {"privacy": cost} if cost else {}

    async def _gathered(self, number: int) -> tuple[rounds.Round, Lift | None]:
        """A round whose updates are in, and what lifts their masks. A secure sum that breaks is begun anew."""
        for left in reversed(range(SUMS)):
            if self._course.round is None or self._course.round.number != number:
                await self._open_round(number)
            await self._collected()
            try:
                return await self._closed(number)
            except NoParticipants as few:
                if self.summing is None or not left:
                    raise
                await self._forget_round(number, few.detail)
        raise AssertionError("unreachable")

    async def _closed(self, number: int) -> tuple[rounds.Round, Lift | None]:
        closed = self._course.the_round
        if self.summing is None:
            await self._evaluation.conclude()
        if closed.state == rounds.INVALID:
            raise NoParticipants(f"round {number}: {closed.reason}. {self._reasons(closed)}")
        if self.summing is None:
            return closed, None
        lift = await self.summing.lift(frozenset(closed.accepted))
        self.summing.close()
        return closed, lift

    async def _forget_round(self, number: int, reason: str) -> None:
        """What was counted in a round is of no use without the secrets of its sum: nothing of it was."""
        log.warning("run %s round %d: %s; it is held anew", self.task.run, number, reason)
        await self._means.records.round_broken(self.task.run, number, reason)
        self._offers.withdraw(number)
        self._intake.discard()
        self._course.round = None

    async def _result(self, closed: rounds.Round, lift: Lift | None) -> tuple[memoryview, memoryview, float]:
        """The next model, the server's state, and how many examples it was learned from."""
        if lift is None or self.summing is None:
            return *await self._collect.result(), sum(closed.accepted.values())
        clipping = self.summing.clipping
        model, state, said = await self._collect.summed(lift, len(self._scheme.metrics), clipping.clip)
        summed = Summed(*said)
        self._inside = summed.inside
        metrics = dict(zip(self._scheme.metrics, summed.metrics, strict=False))
        await self._evaluation.together(metrics, round(summed.held_out), len(closed.accepted))
        return model, state, 0 if clipping.rule.noisy else round(summed.examples)  # under noise, nobody says how many

    async def _open_round(self, number: int) -> None:
        quorum = self.task.quorum
        await self._collect.begin(number)
        await self._offer(number)
        await self._course.pulse.until(lambda: len(self._cohort.present()) >= quorum.minimum, within=PATIENCE)
        past = await self._means.records.arrivals(self.task.run, number) if self.task.pace else []
        deadline = learned_deadline(past, self.task.pace, self.task.deadline)
        present = self._cohort.present()  # from here to `open_round` nothing waits, so nobody leaves unnoticed
        if len(present) < quorum.minimum:
            raise NoParticipants(
                f"{len(present)} nodes are there, the quorum is {quorum.minimum}. {self.roster.reasons()}"
            )
        drawn, target = self._cohort.draw(number)
        policy = rounds.Policy(quorum.minimum, target, deadline)
        if steps := steps_of(self._scheme.strategy):
            policy, drawn = step_policy(policy, steps), present  # whoever still trains hands in to it, too
        self._course.round = rounds.open_round(number, policy, drawn, self._means.now())
        self._course.wake_at(self._course.round.ends)
        told = {
            "round": number,
            "ends": self._course.round.ends,
            "invited": [self.roster.name(key) for key in sorted(drawn)],
            "target": policy.target,
            "deadline": deadline,
        }
        if self.summing is not None:
            self.summing.begin(number, drawn, self._collect.base)
            told[SUM] = self._collect.sum = self.summing.id
            told |= self.summing.clipping.told()
        point("before-round-opened")
        await self._means.records.round_opened(self._course.round, self.task.run, told)
        point("after-round-opened")
        self._course.pulse.beat()  # updates of earlier models may wait for it

    async def _collected(self) -> None:
        """Wait for the updates of a round; who is lost and which spares are drawn meanwhile is told."""
        done = {rounds.AGGREGATING, rounds.INVALID}
        while self._course.state not in done:
            await self._course.pulse.until(lambda: bool(self._course.owed) or self._course.state in done)
            await self._write_down()

    async def _evaluate(self, number: int) -> None:
        """Let everybody measure the newest checkpoint on its held-out examples."""
        if not self.task.holdout or self.summing is not None:  # what is measured under masks is summed with an update
            return
        await self._offer(number)
        await self._means.records.say(self.task.run, "evaluating", {"round": number}, to_all=True)
        await self._course.pulse.until(
            lambda: self._cohort.present() <= self._evaluation.tally.heard, within=min(PATIENCE, self.task.deadline)
        )
        await self._evaluation.conclude()
        self._offers.withdraw(number)

    async def _keep(self, number: int, model: memoryview, state: memoryview) -> None:
        """Write the checkpoint of a round, and seal it meanwhile for the next; both are done when this returns."""
        sealing = asyncio.ensure_future(self._offers.seal_ahead(number + 1, model))
        try:
            await self.checkpoints.write(number, [model], state)
        finally:
            await asyncio.wait({sealing})  # it reads the seat's memory
        await sealing

    async def _offer(self, number: int) -> None:
        """Hand out the newest checkpoint, to whoever takes part in round `number`."""
        self._evaluation.begin(number)
        await self._offers.model(number)

    # --- what participants ask ------------------------------------------------------------------------

    def offered(self, number: int, key: str) -> Broadcast:
        """The sealed payload of a round (0: the plan), for a participant that thereby commits to it.

        Raises:
            NotInvited, RoundClosed
        """
        self.roster[key]
        if (offered := self._offers.get(number)) is None:
            with self._course.explaining(number):
                raise RoundClosed(f"round {number} is not open")
        if self._course.round is not None and number == self._course.round.number:
            with self._course.explaining(number):
                rounds.admit_commit(self._course.round, key)
            self._course.apply(rounds.NodeCommitted(key))
        return offered

    async def report(self, number: int, key: str, blocks: AsyncIterable[bytes], limit: int) -> None:
        """Hear how a participant fares: ready, evaluated, or failed."""
        entry = self.roster[key]
        context = Context(run=self.task.run, round=number, kind="report", sender=public_from_id(key), direct=True)
        envelope = await gather(blocks, limit)
        report = open_message(
            envelope, Report, self._means.identity.public, self._means.prekeys.find, context, self._means.now()
        )
        if report.status == "ready" and number == 0 and not entry.ready:
            await self._muster.welcome(key, report.examples)
        elif report.status == "failed":
            await self._give_up(number, key, report.reason[:REASON])
        elif report.status == "evaluated" and number == self._evaluation.number:
            await self._evaluation.hear(key, report, self._means.now())
            point("after-report-row")
            self._course.pulse.beat()

    async def take(self, number: int, key: str, blocks: AsyncIterable[bytes], piece: Piece = WHOLE) -> Counted:
        """Take an update: it is on disk and its row committed when this returns. Raises as `Intake.take` does."""
        return await self._intake.take(number, key, blocks, piece)

    def held(self, key: str, piece: Piece) -> Held:
        """How much of an update arrived before its connection broke."""
        return self._intake.held(key, piece)

    # --- changes --------------------------------------------------------------------------------------

    async def _give_up(self, number: int, key: str, reason: str) -> None:
        """A participant cannot go on: in this round, or in the run when it could not even prepare."""
        if number == 0:
            await self._muster.stand(key, Standing.FAILED, reason)
        if number == self._evaluation.number:
            self._evaluation.tally.pass_over(key)
            self._course.pulse.beat()
        if self._course.round is None or number not in {0, self._course.round.number}:
            return
        self._course.fail(key, reason)
        await self._write_down()

    async def _write_down(self) -> None:
        await write_down(self._means.records, self.task.run, self._course, self.roster)

    # --- ending ---------------------------------------------------------------------------------------

    async def _fail(self, reason: str) -> None:
        if self._course.run.state == runs.PREPARING:
            await self._end(runs.PreparationFailed(reason))
        else:
            await self._end(runs.RoundInvalid(self._course.run.current, reason))

    async def _end(self, event: object) -> None:
        self._course.advance(event)
        await self._means.records.ended(self._course.run, self._evaluation.best)

    async def _close(self) -> None:
        self.up.set()
        self._cohort.close()
        if self.summing is not None:
            self.summing.close()
        self._course.pulse.close()
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})
        await self._intake.close()
        self._offers.close()
        await self._collect.close()
        if self.over:
            self.checkpoints.sweep()

    # --- small questions --------------------------------------------------------------------------------

    def _reasons(self, closed: rounds.Round) -> str:
        return "; ".join(
            f"{node}: {why}" for node, why in self.roster.named({**closed.rejected, **closed.failed}).items()
        )
