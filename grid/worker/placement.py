"""Which seat computes on which GPU: the rule, without a GPU.

Only jobs that train or evaluate with torch may; each gets the GPU with the fewest seats, and so many share one and no
more. A run whose job failed on a GPU goes on without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from grid.worker.gpus import Gpu

REMEMBERED = 1000
"""Runs that are kept off the GPUs; the oldest is forgotten, and may then fail once more."""


class Placement:
    """`gpus`, each for at most `most` seats at once. Seats are known by their numbers."""

    def __init__(self, gpus: Iterable[Gpu], most: int) -> None:
        self._gpus, self._most = tuple(gpus), most
        self._held: dict[int, Gpu] = {}
        self._avoiding: dict[str, str] = {}

    @property
    def room(self) -> int:
        """How many seats can have a GPU at once."""
        return len(self._gpus) * self._most

    @property
    def share(self) -> float:
        """How much of a GPU's memory one seat's tensors may take; the rest is for what CUDA itself keeps there."""
        return 0.9 / self._most

    def seats(self) -> list[tuple[Gpu, int]]:
        """Each GPU, and how many seats it has at present."""
        held = Counter(self._held.values())
        return [(gpu, held[gpu]) for gpu in self._gpus]

    def take(self, seat: int, accelerable: bool, run: str) -> Gpu | None:
        """The GPU for a seat that is about to be opened, or None: the processor."""
        free = [(held, place) for place, (_, held) in enumerate(self.seats()) if held < self._most]
        if not accelerable or run in self._avoiding or not free:
            return None
        _, place = min(free)
        self._held[seat] = self._gpus[place]
        return self._gpus[place]

    def leave(self, seat: int) -> None:
        """The seat is closed, or goes on without."""
        self._held.pop(seat, None)

    def avoid(self, run: str, why: str) -> None:
        """A job of that run failed on a GPU: no other of its jobs gets one. Jobs without a run are not remembered."""
        if run:
            self._avoiding[run] = why
            while len(self._avoiding) > REMEMBERED:
                del self._avoiding[next(iter(self._avoiding))]
