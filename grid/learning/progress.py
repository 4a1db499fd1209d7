"""How far a training is, told at a bounded rate: numbers about the training, never of the data."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

EVERY = 1.0
"""Seconds between two reports."""

Told = Callable[[int, int, float], None]
"""Hears after each step: its number from 1, of how many, and the loss of its batch."""


def unheard(step: int, steps: int, loss: float) -> None:
    """Nobody asks."""


class Reporter:
    """Tells the first step of a fit, then one in `every` seconds, with the mean loss of the batches since the last.

    `epoch` is how many steps an epoch has; `now` is seconds of any clock.
    """

    def __init__(
        self,
        tell: Callable[[dict[str, Any]], None],
        epoch: int,
        now: Callable[[], float] = time.monotonic,
        every: float = EVERY,
    ) -> None:
        self._tell, self._epoch, self._now, self._every = tell, epoch, now, every
        self._due, self._sum, self._count = -math.inf, 0.0, 0

    def __call__(self, step: int, steps: int, loss: float) -> None:
        """One step is done."""
        self._sum, self._count = self._sum + loss, self._count + 1
        if (now := self._now()) < self._due:
            return
        mean = self._sum / self._count
        known = {"loss": mean} if math.isfinite(mean) else {}
        self._tell({"step": step, "steps": steps, "epoch": 1 + (step - 1) // self._epoch, **known})
        self._due, self._sum, self._count = now + self._every, 0.0, 0
