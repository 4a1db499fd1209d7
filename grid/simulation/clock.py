"""A clock moved by hand: from one appointment to the next."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Clock:
    """Simulated seconds since the beginning, and a heap of what is to be called when.

    Appointments of the same moment are kept in the order in which they were made.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._made = 0

    def at(self, when: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call it then, or now if that is past."""
        self._made += 1
        heappush(self._heap, (when, self._made, call, arguments))

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Call it so much later."""
        self.at(self.now + seconds, call, *arguments)

    def play(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Move on until nothing is left to be done, or until `stop` says so."""
        heap = self._heap
        while heap and not stop():
            when, _, call, arguments = heappop(heap)
            if when > self.now:
                self.now = when
            call(*arguments)
