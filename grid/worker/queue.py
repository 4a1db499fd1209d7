"""Who gets the next seat: the rule, without waiting and without a clock.

What matters sooner goes first. Among equals the run that holds the fewest seats goes first, so that a run with many
jobs does not shut out a run with one; among those it is the order in which they came. So many may wait and no more.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import NamedTuple

from grid.worker.port import Priority


class Full(Exception):
    """As many wait as may wait."""


class _Place(NamedTuple):
    priority: Priority
    run: str


class Queue:
    """`seats` places, and a line of at most `most` who wait for one. Everybody is known by a number."""

    def __init__(self, seats: int, most: int) -> None:
        self._seats, self._most = seats, most
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Place] = {}  # in the order in which they came
        self._seated: dict[int, _Place] = {}

    @property
    def taken(self) -> int:
        """How many have a seat."""
        return len(self._seated)

    @property
    def waiting(self) -> int:
        """How many wait for one."""
        return len(self._waiting)

    def resize(self, seats: int) -> None:
        """There are so many seats from now on; who has one beyond that keeps it."""
        self._seats = seats

    def join(self, priority: Priority, run: str = "") -> int:
        """Stand in line; the number under which one is called.

        Raises:
            Full: nobody may wait any more.
        """
        if self.taken + self.waiting >= self._seats + self._most:
            raise Full
        number = next(self._numbers)
        self._waiting[number] = _Place(priority, run)
        return number

    def leave(self, number: int) -> None:
        """Give the seat back, or no longer wait for one. Who has left already may leave again."""
        self._waiting.pop(number, None)
        self._seated.pop(number, None)

    def call(self) -> list[int]:
        """Seat as many as there are seats, in the order of the rule; their numbers."""
        called = []
        while self._waiting and self.taken < self._seats:
            held = Counter(place.run for place in self._seated.values())
            number = min(self._waiting, key=lambda n: (self._waiting[n].priority, held[self._waiting[n].run], n))
            self._seated[number] = self._waiting.pop(number)
            called.append(number)
        return called
