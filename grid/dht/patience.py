"""How long to wait for a peer, learned from how long peers took; and whom to leave alone for a while."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, TypeVar

from grid.dht.table import Contact

T = TypeVar("T")

FIRST = 0.3
"""Seconds after which a peer is late, until something was measured."""
SHORTEST, LONGEST = 0.1, 1.0
MEASURED = 64
"""Answers from which is learned."""
ENOUGH = 16
PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds for which a peer that failed is left alone, at first and at most."""
REMEMBERED = 4096


class Patience:
    """What one peer learned of others' answers. A peer is late after a quarter more than 95 of 100 answers take."""

    def __init__(self) -> None:
        self._took: deque[float] = deque(maxlen=MEASURED)
        self._down: dict[bytes, tuple[float, int]] = {}  # until when, after how many failures in a row
        self.soft = FIRST

    async def call(self, contact: Contact, answer: Coroutine[Any, Any, T]) -> T:
        """Wait for an answer, and learn how long it took."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        given = await answer
        self._took.append(loop.time() - began)
        if len(self._took) >= ENOUGH:
            self.soft = min(max(1.25 * sorted(self._took)[int(0.95 * len(self._took))], SHORTEST), LONGEST)
        self.answered(contact)
        return given

    def answered(self, contact: Contact) -> None:
        """It is there."""
        self._down.pop(contact.id, None)

    def failed(self, contact: Contact, now: float) -> int:
        """It is not; how often in a row."""
        _, times = self._down.pop(contact.id, (0.0, 0))
        while len(self._down) >= REMEMBERED:
            del self._down[next(iter(self._down))]
        self._down[contact.id] = now + min(PAUSE * 2**times, LONGEST_PAUSE), times + 1
        return times + 1

    def may_ask(self, key: bytes, now: float) -> bool:
        """Whether it is worth while to ask a peer."""
        return self._down.get(key, (0.0, 0))[0] <= now
