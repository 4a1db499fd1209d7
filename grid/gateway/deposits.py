"""Sealed envelopes that sites leave with their part of a run, for its other sites. What is not sealed is not taken."""

from __future__ import annotations

import asyncio
import tempfile
import zipfile
from collections.abc import Callable
from typing import IO

from grid.crypto import errors
from grid.crypto.envelope import EnvelopeCheck
from grid.gateway.shared_runs import SharedPart, SharedRuns
from grid.store import record
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.record import DepositRow
from grid.store.schema import Transaction
from grid.transport.auth import Caller
from grid.wire.problems import EnvelopeRefused, Full, NotAllowed

ARTIFACTS = "artifacts"


class Left:
    """One envelope as it comes in: to disk, its signature checked on the way. This gateway could not open it."""

    def __init__(self, blobs: Blobs, now: float, kind: str, room: int) -> None:
        self._check, self._draft, self.kind, self._room = EnvelopeCheck(lambda _: None, now), blobs.create(), kind, room
        self.size = 0

    def write(self, block: bytes) -> None:
        """The next bytes. Raises EnvelopeRefused, Full."""
        try:
            self._check.feed(block)
        except errors.EnvelopeRefused as error:
            raise EnvelopeRefused(f"only sealed envelopes are taken here: {error}") from None
        self.size += len(block)
        if self.size > self._room:
            raise Full("this gateway keeps no more for others")
        self._draft.write(block)

    async def finish(self) -> str:
        """Prove all of it; its SHA-256. It is on disk then. Raises EnvelopeRefused."""
        try:
            self._check.finish()
        except errors.EnvelopeRefused as error:
            raise EnvelopeRefused(f"only sealed envelopes are taken here: {error}") from None
        await self._draft.commit()
        return self._draft.digest

    def abort(self) -> None:
        """Throw it away."""
        self._draft.abort()


class Deposits:
    """What was left with the runs of `runs`: rows in `database`, bytes in `blobs`, at most `room` of them."""

    def __init__(self, database: Database, runs: SharedRuns, blobs: Blobs, now: Callable[[], float], room: int) -> None:
        self._db, self._runs, self._blobs, self._now, self._room = database, runs, blobs, now, room

    async def begin(self, kind: str) -> Left:
        """An envelope of this kind begins to come. Raises Full."""
        taken = await self._db.read(record.deposited)
        return Left(self._blobs, self._now(), kind, self._room - taken)

    async def keep(self, caller: Caller, number: int, left: list[Left], task: int, round_: int) -> SharedPart:
        """Keep what came with the caller's own part in a run.

        Raises:
            NotFound, NotAllowed: no such part, or another site's.
            EnvelopeRefused: what came is no envelope.
        """
        part, now = await self._runs.get(caller, number), self._now()
        if part.site.owner != caller.account:
            raise NotAllowed("this run is another site's")
        rows = [DepositRow(0, number, e.kind, task, round_, await e.finish(), e.size, now) for e in left]

        def work(connection: Transaction) -> None:
            for row in rows:
                record.add_deposit(connection, row)

        await self._db.write(work)
        return part

    async def sweep(self) -> None:
        """Remove the files of projects that are gone, and of uploads that came to nothing. At the start only."""
        kept = await self._db.read(record.deposited_files)
        for path in await asyncio.to_thread(lambda: list(self._blobs.folder.glob("??/??/*"))):
            if path.name not in kept:
                self._blobs.delete(path.name)

    async def of(self, part: SharedPart) -> list[DepositRow]:
        """What was left with a part, oldest first."""
        return await self._db.read(lambda connection: record.deposits(connection, part.row.id))

    async def for_caller(self, caller: Caller, number: int, kind: str, *, every: bool) -> list[tuple[int, DepositRow]]:
        """What a caller may have, each with its part: its own; of its own batch the coordinator's artifacts;
        for the coordinator what `every` site left.

        Raises:
            NotFound: no such part for this caller.
            NotAllowed: what every site left, and the caller is not the coordinator.
        """
        part = await self._runs.get(caller, number)
        if every and not part.consortium.led_by(caller):
            raise NotAllowed("what every site left is for the coordinator")
        of_batch = await self._db.read(lambda c: record.parts(c, part.row.project, part.row.batch))
        leads = {party.id for party, _ in part.consortium.parties if party.coordinates}
        shown = [row for row in of_batch if every or row.id == number or (kind == ARTIFACTS and row.party in leads)]
        found = await self._db.read(lambda c: [(row.id, left) for row in shown for left in record.deposits(c, row.id)])
        return [(number, left) for number, left in found if left.kind == kind]

    def zipped(self, found: list[tuple[int, DepositRow]]) -> IO[bytes]:
        """The envelopes in a ZIP, stored as they are, in a file without a name."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever sends it closes it
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for number, left in found:
                name = f"{left.kind}/run-{number}/task-{left.task}/round-{left.round}/{left.id}.sealed"
                archive.write(self._blobs.path(left.file), name)
        file.seek(0)
        return file
