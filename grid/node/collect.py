"""Updates as they come in: on disk first, then opened, checked, committed, acknowledged and folded.

What is acknowledged is on disk, sealed as it came, with its row committed: a crash loses nothing of it,
and the sum can be made again from the files. Memory holds one update and one accumulator, however many come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeVar

import msgspec

from grid.client.payload import open_tensors, read_blocks
from grid.crypto.envelope import Context
from grid.crypto.sealing import Opener
from grid.learning.tensors import Layout, header_bytes
from grid.node.means import Means
from grid.wire.problems import UpdateRefused, WorkerFailed
from grid.wire.runs import Report
from grid.worker.port import FoldJob, Seat

T = TypeVar("T")

REPORT = "report"
"""The metadata entry of an update that holds its report, as JSON."""


class Collect:
    """Opens, checks and sums the updates of one run, one round at a time.

    Its caller holds `turn` from the check of an update to its fold: between them stands the commit,
    so nothing is summed that is not durable, and whatever is durable is summed.
    """

    def __init__(self, means: Means, run: str, layout: Layout) -> None:
        self._means, self._run, self._layout = means, run, layout
        self._seat: Seat | None = None
        self._in: list[tuple[Path, bytes, float]] = []
        self._number = 0
        self.turn = asyncio.Lock()

    async def begin(self, number: int) -> None:
        """Start round `number` with an empty sum."""
        self._number = number
        self._in.clear()
        await self._with_seat(lambda seat: seat.call("begin"))

    async def check(self, update: Path, sender: bytes) -> Report:
        """Open the sealed update in a file into the seat and look at it: proved, of the model's shape, finite.

        Raises:
            EnvelopeRefused, PrekeyUnknown: it does not open; the sender may try again.
            TensorsRefused, UpdateRefused: it is the sender's own, and it cannot be counted.
        """
        metadata = await self._with_seat(lambda seat: self._look(seat, update, sender))
        try:
            report = msgspec.json.decode(metadata.get(REPORT, ""), type=Report)
        except msgspec.DecodeError as error:
            raise UpdateRefused(f"it has no report that can be read: {error}") from None
        if report.status != "trained" or report.examples < 1:
            raise UpdateRefused("its report does not say how many examples it learned from")
        return report

    async def fold(self, update: Path, sender: bytes, weight: float) -> None:
        """Add the update that was just checked. If the seat is lost, all of the round is summed anew later."""
        self._in.append((update, sender, weight))
        if self._seat is not None:
            try:
                await self._seat.call("fold", weight=weight)
            except WorkerFailed:
                await self.close()

    async def mean(self) -> memoryview:
        """The weighted mean of the round: the data section of the model, valid until the next `begin`."""
        async with self.turn:
            return await self._with_seat(_mean)

    def discard(self) -> None:
        """The round's checkpoint is on disk and told of: its updates are needed no more."""
        for update, _, _ in self._in:
            update.unlink(missing_ok=True)
        self._in.clear()

    async def close(self) -> None:
        """Give the seat back."""
        seat, self._seat = self._seat, None
        if seat is not None:
            await seat.close()

    async def _with_seat(self, work: Callable[[Seat], Awaitable[T]]) -> T:
        """Do something in the seat; if it is lost, once more in another."""
        try:
            return await work(await self._summing())
        except WorkerFailed:
            await self.close()
            return await work(await self._summing())

    async def _summing(self) -> Seat:
        """The seat with all that was counted in its sum: a new one is filled from the files."""
        if self._seat is None:
            seat = await self._means.folder.open(FoldJob(layout=header_bytes(self._layout)))
            try:
                await seat.call("begin")
                for update, sender, weight in self._in:
                    await self._look(seat, update, sender)
                    await seat.call("fold", weight=weight)
            except BaseException:
                await seat.close()
                raise
            self._seat = seat
        return self._seat

    async def _look(self, seat: Seat, update: Path, sender: bytes) -> dict[str, str]:
        context = Context(run=self._run, round=self._number, kind="update", sender=sender, direct=True)
        opener = Opener(self._means.identity.public, self._means.prekeys.find, context, self._means.now())
        async with aclosing(read_blocks(update)) as blocks:
            metadata = await open_tensors(opener, blocks, self._layout, seat.inbox)
        await seat.call("check")
        return metadata


async def _mean(seat: Seat) -> memoryview:
    await seat.call("mean")
    return seat.outbox
