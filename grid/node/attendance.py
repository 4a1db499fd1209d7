"""Who is listening right now: an open long-poll is a participant's pulse."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

GRACE = 2.0
"""Seconds without an open poll after which a participant counts as gone."""

FIRST = 15.0
"""Seconds that an invited participant has for its first poll."""


class Attendance:
    """Counts the open polls of each participant and tells when one stays away.

    `gone(key)` is called `grace` seconds after the last poll of `key` ended, unless it is back by
    then; `back(key)` when somebody who was not there opens a poll. Keys are public keys in their wire form.
    """

    def __init__(self, gone: Callable[[str], None], back: Callable[[str], None], grace: float = GRACE) -> None:
        self._gone, self._back, self._grace = gone, back, grace
        self._polls: Counter[str] = Counter()
        self._leaving: dict[str, asyncio.TimerHandle] = {}

    def here(self, key: str) -> bool:
        """Whether a poll is open, or was until a moment ago."""
        return self._polls[key] > 0 or key in self._leaving

    def expect(self, key: str, within: float = FIRST) -> None:
        """It said that it comes: count it as here until `within` seconds are over."""
        if not self.here(key):
            self._leave(key, within)

    @contextmanager
    def poll(self, key: str) -> Iterator[None]:
        """For as long as one poll of `key` is open."""
        absent = not self.here(key)
        self._polls[key] += 1
        if timer := self._leaving.pop(key, None):
            timer.cancel()
        if absent:
            self._back(key)
        try:
            yield
        finally:
            self._polls[key] -= 1
            if not self._polls[key]:
                self._leave(key, self._grace)

    def close(self) -> None:
        """Forget everybody; nobody is reported any more."""
        self._gone = self._back = lambda key: None
        for timer in self._leaving.values():
            timer.cancel()

    def _leave(self, key: str, seconds: float) -> None:
        self._leaving[key] = asyncio.get_running_loop().call_later(seconds, self._left, key)

    def _left(self, key: str) -> None:
        del self._leaving[key]
        self._gone(key)
