"""Updates as they come in: on disk first, then opened, checked, committed, acknowledged and folded.

What is acknowledged is on disk, sealed as it came, with its row committed: a crash loses nothing of it,
and the sum can be made again from the files. Memory holds one update and one accumulator, however many come.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec

from grid.client.payload import load_tensors
from grid.crypto.encoding import b64
from grid.crypto.envelope import Context
from grid.crypto.hashing import sha256_beside
from grid.crypto.identity import public_from_id
from grid.crypto.sealing import Opener
from grid.learning.scheme import Scheme
from grid.node.checkpoints import Checkpoints
from grid.node.lift import Lift
from grid.node.means import Means
from grid.wire.problems import RoundClosed, UpdateRefused, WorkerFailed
from grid.wire.runs import Report
from grid.worker.port import FoldJob, Seat

log = logging.getLogger(__name__)

T = TypeVar("T")

REPORT = "report"
"""The metadata entry of an update that holds its report, as JSON."""


SUM = "sum"
"""Under which an update's report, and the event that opens a round, name the secure sum."""

NUMBERS = ("loss", "normaliser")
"""What strategies ask for beside the number of examples."""


class Counted(NamedTuple):
    """An update that is on disk and in the sum; `base` is the round with whose model it began (0: this one)."""

    update: Path
    sender: bytes
    report: Report
    base: int = 0


class Collect:
    """Opens, checks and sums the updates of one run, one round at a time.

    `done` says that the last result is all that there is to know: an analysis ends before its last round.

    Its caller holds `turn` from the check of an update to its fold: between them stands the commit,
    so nothing is summed that is not durable, and whatever is durable is summed.
    """

    def __init__(self, means: Means, run: str, scheme: Scheme, checkpoints: Checkpoints, population: int) -> None:
        self._means, self._run, self._scheme = means, run, scheme
        self._checkpoints, self._population = checkpoints, population
        self._seat: Seat | None = None
        self._in: list[Counted] = []
        self._number = 0
        self.base, self.sum, self.done = "", 0, False
        self.turn = asyncio.Lock()

    async def begin(self, number: int, counted: Iterable[tuple[Path, str, int]] = ()) -> None:
        """Start round `number`; the sum holds the updates that were `counted` before a restart.

        Of each: its file, its sender's id, and the round with whose model it began (0: this one).
        """
        self._number = number
        self._in.clear()
        await self._with_seat(self._begin)
        for path, key, base in counted:
            sender = public_from_id(key)
            await self.fold(path, sender, await self.check(path, sender, base), base)

    async def check(self, update: Path, sender: bytes, base: int = 0) -> Report:
        """Open the sealed update in a file into the seat and look at it: proved, of the model's shape, finite.

        Raises:
            EnvelopeRefused, PrekeyUnknown: it does not open; the sender may try again.
            TensorsRefused, UpdateRefused: it is the sender's own, and it cannot be counted.
        """
        return await self._with_seat(lambda seat: self._look(seat, update, sender, base))

    async def fold(self, update: Path, sender: bytes, report: Report, base: int = 0) -> None:
        """Add the update that was just checked. If the seat is lost, all of the round is summed anew later."""
        counted = Counted(update, sender, report, base)
        self._in.append(counted)
        if self._seat is not None:
            try:
                await self._seat.call("fold", **self._told(counted))
            except WorkerFailed as lost:
                self._note(lost)
                await self.close()

    async def result(self) -> tuple[memoryview, memoryview]:
        """The next model's data section, and the server's state that belongs to it; valid until the next `begin`."""
        async with self.turn:
            return await self._with_seat(self._result)

    async def summed(self, lift: Lift, metrics: int, clip: float = 0.0) -> tuple[memoryview, memoryview, list[Any]]:
        """The same of masked vectors; and what their nodes said of themselves, as `masked.Summed`."""

        async def work(seat: Seat) -> tuple[memoryview, memoryview, list[Any]]:
            asked: dict[str, Any] = {"added": list(lift.added), "subtracted": list(lift.subtracted)}
            asked |= {"clip": clip} if clip else {}
            done = await seat.call("result", **asked, parties=lift.parties, metrics=metrics)
            self.done = done.get("done", False)
            return seat.outbox[: self._scheme.model.size], seat.state, done["summed"]

        async with self.turn:
            return await self._with_seat(work)

    @property
    def rounds_off(self) -> bool:
        """Whether models travel in another form than checkpoints are kept in."""
        return self._scheme.broadcast != self._scheme.model

    async def broadcast(self, number: int) -> Path:
        """The file of checkpoint `number` as it travels: its own, or a draft for as long as it takes to seal it."""
        if not self.rounds_off:
            return self._checkpoints.path(number)
        async with self.turn:
            return await self._with_seat(lambda seat: self._rounded(seat, number))

    def staleness(self) -> dict[str, int]:
        """By key, how many steps old the counted updates were that began with an earlier model."""
        return {b64(each.sender): self._number - each.base for each in self._in if each.base}

    def forget(self) -> list[Path]:
        """The round's checkpoint is on disk and told of: the files of its updates, which are needed no more."""
        files = [counted.update for counted in self._in]
        self._in.clear()
        return files

    async def close(self) -> None:
        """Give the seat back."""
        seat, self._seat = self._seat, None
        if seat is not None:
            await seat.close()

    async def _with_seat(self, work: Callable[[Seat], Awaitable[T]]) -> T:
        """Do something in the seat; if it is lost, once more in another."""
        try:
            return await work(await self._summing())
        except WorkerFailed as lost:
            self._note(lost)
            await self.close()
            return await work(await self._summing())

    def _note(self, lost: WorkerFailed) -> None:
        log.warning("run %s round %d: %s; its sum is made again", self._run, self._number, lost.detail)

    async def _summing(self) -> Seat:
        """The seat with all that was counted in its sum: a new one is filled from the files."""
        if self._seat is None:
            seat = await self._means.folder.open(self._job())
            try:
                await self._restore(seat)
                if self._number:  # 0: after a restart between two rounds
                    await self._begin(seat)
                for counted in self._in:
                    await self._look(seat, counted.update, counted.sender, counted.base)
                    await seat.call("fold", **self._told(counted))
            except BaseException:
                await seat.close()
                raise
            self._seat = seat
        return self._seat

    def _job(self) -> FoldJob:
        scheme = self._scheme
        return FoldJob(
            layout=scheme.header,
            strategy=scheme.strategy,
            statistics=scheme.statistics,
            updates=self._population,
        )

    async def _restore(self, seat: Seat) -> None:
        """The state of the server after the round before, into a seat that begins with none."""
        path = self._checkpoints.state(self._number - 1)
        if self._scheme.state.size and path.exists():
            seat.state[: self._scheme.state.size] = await asyncio.to_thread(path.read_bytes)

    async def _begin(self, seat: Seat) -> None:
        if not self._scheme.strategy.needs_current:
            await seat.call("begin")
            return
        into = seat.inbox[: self._scheme.model.size]
        await asyncio.to_thread(_load, self._checkpoints.path(self._number - 1), into)
        done = await seat.call("begin", current="inbox", population=self._population)
        self.base = done.get("base", "")

    async def _rounded(self, seat: Seat, number: int) -> Path:
        await asyncio.to_thread(_load, self._checkpoints.path(number), seat.inbox[: self._scheme.model.size])
        await seat.call("round")
        wire = self._scheme.broadcast
        return await asyncio.to_thread(self._checkpoints.draft, number, wire, seat.inbox[: wire.size])

    async def _result(self, seat: Seat) -> tuple[memoryview, memoryview]:
        self.done = (await seat.call("result")).get("done", False)
        return seat.outbox[: self._scheme.model.size], seat.state

    async def _look(self, seat: Seat, update: Path, sender: bytes, base: int) -> Report:
        context = Context(run=self._run, round=base or self._number, kind="update", sender=sender, direct=True)
        metadata = await asyncio.to_thread(self._opened, update, context, seat.inbox)
        report = _read_report(metadata.get(REPORT, ""))
        if self._scheme.strategy.masked and report.numbers.get(SUM) != self.sum:
            raise RoundClosed("this update is masked for a sum that is over")
        await seat.call("check", **self._told(Counted(update, sender, report, base)))
        return report

    def _opened(self, update: Path, context: Context, into: memoryview) -> dict[str, str]:
        means, layout = self._means, self._scheme.update
        with sha256_beside(layout.size) as digest:
            opener = Opener(means.identity.public, means.prekeys.find, context, means.now(), digest)
            return load_tensors(opener, update, layout, into)

    def _told(self, counted: Counted) -> dict[str, Any]:
        """What the sum has to know of an update: its weight, the numbers that its strategy asks for, its staleness."""
        report = counted.report
        numbers = {name: report.numbers[name] for name in NUMBERS if name in report.numbers}
        older = {"staleness": self._number - counted.base} if counted.base else {}
        based = {"base": report.base} if report.base else {}
        return {"weight": float(report.examples), **numbers, **older, **based}


def _read_report(text: str) -> Report:
    try:
        report = msgspec.json.decode(text, type=Report)
    except msgspec.DecodeError as error:
        raise UpdateRefused(f"it has no report that can be read: {error}") from None
    if report.status != "trained" or report.examples < 1:
        raise UpdateRefused("its report does not say how many examples it learned from")
    return report


def _load(path: Path, into: memoryview) -> None:
    """The data section of a checkpoint."""
    with path.open("rb", buffering=0) as file:
        file.seek(path.stat().st_size - len(into))
        while into:
            into = into[file.readinto(into) :]
