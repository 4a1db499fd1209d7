"""What came of a simulation, in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct, field


class Figures(Struct):
    """Counted as it goes. Times are simulated seconds, work is seconds of training, sizes bytes.

    `late`: came when the round had closed; `stopped`: heard so and gave up; `slow`: not done by the deadline.
    `counted_at_close`: updates in each round at the moment it closed, before the grace.
    """

    name: str
    machine_events: int = 0
    runs: int = 0
    completed: int = 0
    invalid: int = 0
    drawn: int = 0
    joined: int = 0
    counted: int = 0
    late: int = 0
    lost: int = 0
    slow: int = 0
    rejected: int = 0
    stopped: int = 0
    under_way: int = 0
    worth: float = 0.0
    """Counted updates by their weights: one that is not stale is worth 1."""
    bytes_down: float = 0.0
    bytes_up: float = 0.0
    bytes_wasted: float = 0.0
    work: float = 0.0
    work_wasted: float = 0.0
    seconds: float = 0.0
    """Until the last round ended."""
    round_seconds: list[float] = field(default_factory=list)
    counted_at_close: list[int] = field(default_factory=list)
    learned: bool = False
    """Whether it ended because the learner was done."""
    losses: list[float] = field(default_factory=list)
    """On examples that no node has, after each round, with real fits."""

    @property
    def moved(self) -> float:
        """Bytes down and up."""
        return self.bytes_down + self.bytes_up

    def plain(self) -> dict[str, Any]:
        """For JSON, with what a reader asks first."""
        return {**msgspec.to_builtins(self), "round_quantiles": quantiles(self.round_seconds)}


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The middle, one in ten, one in a hundred and the longest; nothing of nothing."""
    ordered = sorted(values)
    if not ordered:
        return {}
    last = len(ordered) - 1
    places = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "most": 1.0}
    return {name: ordered[round(place * last)] for name, place in places.items()}


def ratios(first: Figures, other: Figures) -> dict[str, float]:
    """How many times less time and bytes the other took, for as much of what both were after.

    For an update that was counted, for one by its weight, and for the loss that both were to reach, if they did.
    """
    units = {"update": (first.counted, other.counted), "weighed update": (first.worth, other.worth)}
    if first.learned and other.learned:
        units["loss"] = (1, 1)
    takes = {"time": (first.seconds, other.seconds), "bytes": (first.moved, other.moved)}
    return {
        f"{what} for {'the' if unit == 'loss' else 'one'} {unit}": (a / mine) / (b / theirs)
        for unit, (mine, theirs) in units.items()
        for what, (a, b) in takes.items()
        if mine and theirs and b
    }
