"""Takes in the updates of a run: spooled to disk, judged one after the other, counted once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from pathlib import Path

from grid.crypto.envelope import body_size
from grid.crypto.identity import public_from_id
from grid.faults import point
from grid.learning.scheme import Scheme
from grid.learning.tensors import MAX_HEADER
from grid.node.cohort import write_down
from grid.node.collect import Collect
from grid.node.course import Course
from grid.node.means import Means
from grid.node.roster import Roster
from grid.protocol import round as rounds
from grid.store.blobs import Blobs, Draft
from grid.transport.partial import Partials
from grid.wire.problems import RoundClosed, TensorsRefused, UpdateRefused, UpdateRepeated
from grid.wire.ranges import WHOLE, Held, Piece
from grid.wire.runs import Counted, Report

SEALING = 1 << 20
"""Bytes: an envelope's preamble and signature are never more."""


class Intake:
    """Updates on their way into the sum; `received` bytes of them were counted in this round."""

    def __init__(
        self, means: Means, run: str, course: Course, roster: Roster, collect: Collect, folder: Path, scheme: Scheme
    ) -> None:
        self._means, self._run, self._course, self._roster, self._collect = means, run, course, roster, collect
        self._updates = Blobs(folder)
        self._limit = body_size(scheme.update.size + MAX_HEADER) + SEALING
        self._partials: Partials[Draft] = Partials()
        self._judging: set[asyncio.Future[Counted]] = set()
        self.received = 0

    async def close(self) -> None:
        """Wait for the judgement of what has arrived; forget what has not."""
        self._partials.close()
        await asyncio.gather(*self._judging, return_exceptions=True)
        self._updates.let_go()

    def discard(self) -> None:
        """The round's checkpoint is on disk and told of: its updates are needed no more."""
        for path in self._collect.forget():
            self._updates.recycle(path)

    def held(self, key: str, piece: Piece) -> Held:
        """How much of a participant's update arrived before its connection broke. Raises NotInvited."""
        self._roster[key]
        return self._partials.held(key, piece.content)

    async def take(self, number: int, key: str, blocks: AsyncIterable[bytes], piece: Piece = WHOLE) -> Counted:
        """Take an update, or the rest of it: it is on disk and its row committed when this returns.

        Raises:
            NotInvited, RoundClosed, UpdateRepeated, UpdateRefused, EnvelopeRefused, PrekeyUnknown
            TooLarge: longer than any update of this model.
            PartMismatch: the rest of another beginning than the one that is here.
        """
        self._roster[key]
        if self._course.round is None or self._course.round.number != number:
            if await self._means.records.was_counted(self._run, number, key):
                raise UpdateRepeated  # it lost our answer, perhaps because we were restarted
            with self._course.explaining(number):
                raise RoundClosed(f"round {number} is not open")
        now = self._means.now()
        with self._course.explaining(number):
            rounds.admit_update(self._course.round, key, now)
        self._course.apply(rounds.UploadBegan(key, now))
        draft = None
        try:
            draft = await self._arrive(key, blocks, piece)
            self._course.apply(rounds.UploadArrived(key))
        except BaseException:
            self._break_off(number, key, draft)
            raise
        # From here on the caller may go away: what it sent is judged all the same.
        judging = asyncio.ensure_future(self._judge(number, key, draft))
        self._judging.add(judging)
        judging.add_done_callback(self._judging.discard)
        return await asyncio.shield(judging)

    async def _arrive(self, key: str, blocks: AsyncIterable[bytes], piece: Piece) -> Draft:
        """All of an update, in a draft; what came of one that breaks off is kept. Raises PartMismatch."""
        draft = self._partials.take(key, piece) or self._updates.create(self._limit, hashed=False)
        try:
            async for block in blocks:
                draft.write(block)
                del block  # see `transport.body.blocks`
        except BaseException as error:
            self._partials.keep(key, piece, draft, error)
            raise
        draft.cut()
        return draft

    async def _judge(self, number: int, key: str, draft: Draft) -> Counted:
        try:
            async with self._collect.turn:
                report = await self._checked(number, key, draft)
                with self._course.explaining(number):
                    rounds.admit_result(self._course.the_round, key)
                return await self._count(number, key, draft, report)
        except BaseException:
            self._break_off(number, key, draft)
            raise

    async def _checked(self, number: int, key: str, draft: Draft, base: int = 0) -> Report:
        """Its report, if round `number` can count it; `base`: the round with whose model it began, if another."""
        try:
            report = await self._collect.check(draft.path, public_from_id(key), base)
            announced = self._roster[key].examples
            if report.examples > announced:
                raise UpdateRefused(f"it claims {report.examples} examples, where {announced} were announced")
        except (TensorsRefused, UpdateRefused) as error:
            await self._reject(key, error.detail)
            raise UpdateRefused(error.detail) from None
        return report

    async def _count(self, number: int, key: str, draft: Draft, report: Report, base: int = 0) -> Counted:
        at, weight = self._means.now(), float(report.examples)
        point("before-update-file")
        path = await draft.commit(f"{number}-{key}")
        point("after-update-file")
        told = {"round": number, "node": self._roster.name(key), "examples": report.examples, "metrics": report.metrics}
        if base:
            told["staleness"] = number - base
        await self._means.records.update_accepted(self._run, number, key, weight, path, told, base, at)
        point("after-update-row")
        self.received += draft.size
        self._course.apply(rounds.UpdateAccepted(key, weight, at))
        await self._collect.fold(path, public_from_id(key), report, base)
        point("after-fold")
        return Counted(round=number, at=at)

    def _break_off(self, number: int, key: str, draft: Draft | None) -> None:
        if draft is not None:
            draft.abort()
        if self._course.the_round.number == number and key in self._course.the_round.uploading:
            self._course.apply(rounds.UploadBroken(key))

    async def _reject(self, key: str, reason: str) -> None:
        self._course.apply(rounds.UpdateRejected(key, reason))
        await write_down(self._means.records, self._run, self._course, self._roster)
