"""What a participant has finished and what its strategy keeps at it: on disk before anybody hears of it.

The sealed update and the state that belongs to it are files, made durable before the row that names their round
is committed: a file without a row never was. The row stands until it is known whether the update was counted. Only
then its state takes the place of the one before, so what a client keeps never runs ahead of what was counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable
from pathlib import Path

from grid.client.payload import Bytes, mapped
from grid.faults import point
from grid.node.records import RunRecords
from grid.protocol.assignment import ACCEPTED, EXPIRED, UPLOADED, Assignment, State
from grid.store.blobs import Blobs

UPDATE, OWN = "finished-", "own-"
"""Files of this name, the run's id and the round: an update, and the client's state after it (both 0600)."""


class Finished:
    """One node's work in one run between its end and the answer to it.

    `number` is the round whose update waits for its answer, 0 where none does. `own` is what the strategy keeps at
    this node, as of the last update that was counted; empty as the run begins.
    """

    def __init__(self, records: RunRecords, blobs: Blobs, run: str, key: str) -> None:
        self._records, self._blobs, self._run, self._key = records, blobs, run, key
        self.number = 0
        self.own: Bytes = b""

    async def recall(self) -> None:
        """Take up what an earlier process left."""
        kept: set[Path] = set()
        for part in await self._records.own_assignments(self._run, self._key):
            if part.state == ACCEPTED:
                self._take_over(part.round)
                kept.add(self._own(part.round))
            elif part.state == UPLOADED and self.update(part.round).exists():
                self.number = part.round
                kept |= {self.update(part.round), self._own(part.round)}
        for path in files(self._blobs):
            if _run_of(path) == self._run and path not in kept:
                path.unlink()

    def update(self, number: int) -> Path:
        """Where the sealed update of a round lies."""
        return self._blobs.named(f"{UPDATE}{self._run}-{number}")

    async def keep(self, number: int, blocks: Iterable[bytes], own: Bytes) -> None:
        """The update of round `number`, sealed, and the client's state after it; both are durable when this returns.

        Raises:
            Full: the disk is.
        """
        await self._durable(blocks, self.update(number).name)
        if len(own):
            await self._durable([bytes(own)], self._own(number).name)
        point("after-finished-file")
        await self._records.own_assignment(self._part(number, UPLOADED), self.update(number).name)
        self.number = number
        point("after-finished-row")

    async def counted(self) -> None:
        """The coordinator counted it: its state is the client's now."""
        number, self.number = self.number, 0
        await self._records.own_assignment(self._part(number, ACCEPTED))
        point("after-counted-row")
        self._take_over(number)
        for path in files(self._blobs):
            if path == self.update(number):
                self._blobs.recycle(path)  # the next update takes its room
            elif _run_of(path) == self._run and path != self._own(number):
                path.unlink()

    async def dropped(self, reason: str) -> None:
        """It will never be counted, and why."""
        number, self.number = self.number, 0
        await self._records.own_assignment(self._part(number, EXPIRED, reason))
        self.update(number).unlink(missing_ok=True)
        self._own(number).unlink(missing_ok=True)

    def _take_over(self, number: int) -> None:
        path = self._own(number)
        self.own = mapped(path) if path.exists() else b""

    async def _durable(self, blocks: Iterable[bytes], name: str) -> None:
        draft = self._blobs.create(hashed=False)
        try:
            for block in blocks:
                draft.write(block)
                await asyncio.sleep(0)  # others have their turn between two blocks
            await draft.commit(name)
        except BaseException:
            draft.abort()
            raise

    def _own(self, number: int) -> Path:
        return self._blobs.named(f"{OWN}{self._run}-{number}")

    def _part(self, number: int, state: State, reason: str = "") -> Assignment:
        return Assignment(self._run, number, self._key, state, reason)


def files(blobs: Blobs) -> list[Path]:
    """All that is kept of finished work, of any run."""
    folder = blobs.named(UPDATE + "x").parent
    return [path for prefix in (UPDATE, OWN) for path in folder.glob(prefix + "*")]


def sweep(blobs: Blobs, runs: Collection[str]) -> None:
    """Remove what belongs to none of these runs."""
    for path in files(blobs):
        if _run_of(path) not in runs:
            path.unlink()


def _run_of(path: Path) -> str:
    return path.name.partition("-")[2].rpartition("-")[0]
