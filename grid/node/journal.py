"""What this node's part in a run tells the node's owner, and nobody else: what is done, and how far it is.

Entries lie in the one event log, in a topic that never leaves the node but to its owner. A worker is not trusted: of
what it says, numbers of the agreed names are kept, and one entry in `EVERY` seconds at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from grid.node.records import RunRecords

EVERY = 1.0
"""Seconds between two entries about the progress of a training."""

NUMBER = 1 << 53


class Progress(msgspec.Struct, frozen=True):
    """How far a training is: steps and epochs begun, of how many steps, and the mean loss since the last report."""

    step: int
    steps: int
    epoch: int
    loss: float | None = None


class Journal:
    """The entries of one run. `begin` owns what is written beside the work."""

    def __init__(
        self,
        records: RunRecords,
        run: str,
        now: Callable[[], float],
        begin: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
    ) -> None:
        self._records, self._run, self._now, self._begin = records, run, now, begin
        self._last = float("-inf")
        self._writing: asyncio.Task[None] | None = None

    def note(self, kind: str, **told: Any) -> None:
        """Have one entry written; the work does not wait for the disk."""
        self._writing = self._begin(self._records.noted(self._run, kind, told))

    async def written(self) -> None:
        """Wait until all entries are on disk: they are written in order."""
        if self._writing is not None:
            await asyncio.wait({self._writing})

    def progress_of(self, number: int) -> Callable[[dict[str, Any]], None]:
        """What hears of the progress in a round."""

        def hear(body: dict[str, Any]) -> None:
            if self._now() - self._last < EVERY:
                return
            try:
                progress = msgspec.convert(body, Progress)
            except msgspec.ValidationError:
                return  # no training says that
            if not 0 <= progress.epoch <= progress.step <= progress.steps < NUMBER:
                return
            self._last = self._now()
            self.note("progress", round=number, **msgspec.structs.asdict(progress))

        return hear
