"""How long a round may take: as long as its task says, or less, learned from when the updates of past rounds came."""

from __future__ import annotations

import math
from collections.abc import Iterable

from msgspec import Struct

QUANTILE = 0.9
"""The share of the wanted updates of past rounds that came in the time from which the deadline is learned."""

WINDOW = 5
"""Rounds that are remembered: nodes change."""

LEAST = 1.0
"""Seconds that a learned deadline has at least."""


class Arrivals(Struct, frozen=True):
    """When the counted updates of a round came, in seconds after its opening; `missing` more were wanted."""

    seconds: tuple[float, ...]
    missing: int = 0


def learned_deadline(past: Iterable[Arrivals], pace: float, most: float) -> float:
    """Seconds for the next round: `pace` times the `QUANTILE` of the times of past updates, at most `most`.

    An update that was wanted and did not come counts as one that takes for ever. So a deadline that cuts off more
    than a tenth of them leads back to `most`, instead of to ever shorter ones. With `pace` 0, or without a past, it
    is `most`.
    """
    rounds = list(past)[-WINDOW:]
    times = sorted(second for each in rounds for second in each.seconds)
    wanted = len(times) + sum(each.missing for each in rounds)
    place = math.ceil(QUANTILE * wanted)
    if not pace or not wanted or place > len(times):
        return most
    return min(max(pace * times[place - 1], LEAST), most)
