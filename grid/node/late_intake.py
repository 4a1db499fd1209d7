"""Takes in updates that may have begun with an earlier model: each counts in whichever round is open once it is here.

An upload belongs to no round while it arrives, so a slow one holds up no step and is cut off by none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable
from pathlib import Path

from grid.learning.scheme import Scheme
from grid.learning.strategy import Asynchronous, Buffered, Strategy
from grid.node.collect import Collect
from grid.node.course import Course
from grid.node.intake import Intake
from grid.node.means import Means
from grid.node.pulse import Over
from grid.node.roster import Roster
from grid.protocol import round as rounds
from grid.protocol.staleness import Steps, admit_late, staleness
from grid.store.blobs import Draft
from grid.wire.problems import RoundClosed, UpdateRepeated
from grid.wire.ranges import WHOLE, Piece
from grid.wire.runs import Counted


def steps_of(strategy: Strategy) -> Steps | None:
    """The steps of a strategy whose rounds wait for nobody; None where all of a round begin with the same model."""
    match strategy.timing:
        case Buffered(size=size, oldest=oldest):
            return Steps(size, oldest)
        case Asynchronous(oldest=oldest):
            return Steps(1, oldest)
        case _:
            return None


def intake_of(
    means: Means, run: str, course: Course, roster: Roster, collect: Collect, folder: Path, scheme: Scheme
) -> Intake:
    """The intake that a strategy asks for."""
    steps = steps_of(scheme.strategy)
    plain = Intake if steps is None else LateIntake
    return plain(means, run, course, roster, collect, folder, scheme)


class LateIntake(Intake):
    """As `Intake`, for rounds that are steps: `number` is the round with whose model an update began."""

    def __init__(
        self, means: Means, run: str, course: Course, roster: Roster, collect: Collect, folder: Path, scheme: Scheme
    ) -> None:
        super().__init__(means, run, course, roster, collect, folder, scheme)
        steps = steps_of(scheme.strategy)
        assert steps is not None
        self._steps = steps
        self._arriving: set[str] = set()
        self._closing = False

    async def close(self) -> None:
        """No step comes any more: whoever waits for one is told so."""
        self._closing = True
        self._course.pulse.beat()
        await super().close()

    async def take(self, number: int, key: str, blocks: AsyncIterable[bytes], piece: Piece = WHOLE) -> Counted:
        """Take an update, or the rest of it: it is on disk and its row committed when this returns.

        Raises:
            NotInvited, RoundClosed, UpdateRepeated, UpdateRefused, EnvelopeRefused, PrekeyUnknown
            TooLarge: longer than any update of this model.
            PartMismatch: the rest of another beginning than the one that is here.
        """
        self._roster[key]
        if key in self._arriving:
            raise UpdateRepeated("an update of this node is arriving at this moment", retry_after=1.0)
        self._arriving.add(key)
        try:
            if await self._means.records.was_counted(self._run, number, key):
                raise UpdateRepeated  # it lost our answer
            self._opens(number, key)
            draft = await self._arrive(key, blocks, piece)
        except BaseException:
            self._arriving.discard(key)
            raise
        # From here on the caller may go away: what it sent is judged all the same.
        judging = asyncio.ensure_future(self._wait_and_judge(number, key, draft))
        self._judging.add(judging)
        judging.add_done_callback(self._judging.discard)
        return await asyncio.shield(judging)

    async def _wait_and_judge(self, base: int, key: str, draft: Draft) -> Counted:
        """Judge an update in the first round that is open for it."""
        try:
            while True:
                await self._course.pulse.until(lambda: self._opens(base, key))
                async with self._collect.turn:
                    if self._opens(base, key):  # the one before may have made the step complete
                        return await self._judge_in(self._course.the_round, base, key, draft)
        except Over:
            raise RoundClosed("the run was stopped") from None
        finally:
            draft.abort()
            self._arriving.discard(key)

    async def _judge_in(self, r: rounds.Round, base: int, key: str, draft: Draft) -> Counted:
        older = base if staleness(r, base) else 0
        self._course.apply(rounds.UploadBegan(key, self._means.now()))
        self._course.apply(rounds.UploadArrived(key))
        try:
            report = await self._checked(r.number, key, draft, older)
            rounds.admit_result(self._course.the_round, key)
            return await self._count(r.number, key, draft, report, older)
        except BaseException:
            self._break_off(r.number, key, draft)
            raise

    def _opens(self, base: int, key: str) -> bool:
        """Whether a round is open for an update now. Raises as `admit_late`."""
        if self._closing:
            raise RoundClosed("the run has taken its last step")
        if self._course.round is None:
            return False
        last = self._course.run.rounds
        return admit_late(self._course.round, key, base, self._steps, last, self._means.now())
