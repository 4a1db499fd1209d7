"""When to look at rounds that are tasks: as soon as one of these changed, and when the time of one is over."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Protocol

from grid.store import tasks
from grid.store.database import Database
from grid.wire.problems import GridError

log = logging.getLogger(__name__)

LOOK = 600.0
"""Seconds after which it is looked again in any case: clocks may be set."""
REST = 0.2
"""Seconds between two looks: what many devices do at once is looked at once."""


class Watched(Protocol):
    """What has rounds: its database, its clock, and what rings when one of them may move."""

    database: Database
    changed: asyncio.Event

    @property
    def now(self) -> Callable[[], float]:
        """UTC seconds."""


class Watch:
    """Looks whenever `of.changed` is set, which commits on tasks whose names begin with `prefix` do, too."""

    def __init__(self, of: Watched, *, prefix: str = "") -> None:
        self._of, self._topics = of, f"task/{prefix}"
        of.database.on_commit.append(self._ring)

    async def keep(self, look: Callable[[], Awaitable[object]], rest: float = REST) -> None:
        """Look for as long as this node runs. A look that fails is logged, and ends nothing."""
        while True:
            self._of.changed.clear()
            try:
                await look()
            except GridError as error:
                log.warning("rounds could not be looked at: %s", error.detail)
            await asyncio.sleep(rest)
            with suppress(TimeoutError):
                async with asyncio.timeout(await self._left()):
                    await self._of.changed.wait()

    async def _left(self) -> float:
        """Seconds until the next task's time is over."""
        ends = await self._of.database.read(tasks.next_end)
        return LOOK if ends is None else min(LOOK, max(REST, ends - self._of.now()))

    def _ring(self, topics: frozenset[str]) -> None:
        if any(each.startswith(self._topics) for each in topics):
            self._of.changed.set()
