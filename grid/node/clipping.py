"""The clip of a noised run, round by round: it follows the share of nodes that were within it, by the task's rule.

Coordinator and participants go by the same rule from what is told of each round, so no node takes a clip for granted.
"""

from __future__ import annotations

import math
from typing import Any

from grid.learning.strategy import Masked
from grid.wire.problems import SumRefused
from grid.wire.runs import Event

CLIP, INSIDE = "clip", "inside"
"""What the event that opens a round tells: its clip, and the share that was within the clip of the round before."""


class Clipping:
    """The clip of one run; `rule` is its task's, with the clip and the bound of the present round."""

    def __init__(self, rule: Masked) -> None:
        self.rule, self._first = rule, rule
        self._round, self._inside, self._refused = 1, 0.0, ""

    @property
    def clip(self) -> float:
        """For a seat: the present round's clip, 0 where it stays what the task says."""
        return self.rule.clip if self._first.adapts else 0.0

    def told(self) -> dict[str, float]:
        """What the event that opens the present round says of it."""
        if not self._first.adapts:
            return {}
        before = {INSIDE: self._inside} if self._round > 1 else {}
        return {CLIP: self.rule.clip, **before}

    def cost(self, number: int, inside: float) -> dict[str, float]:
        """What rounds until this one cost each of their nodes in privacy, and how its clip did; {} without noise."""
        if not self._first.noisy:
            return {}
        spent = {"epsilon": self._first.epsilon(number), "delta": self._first.delta}
        return spent | ({CLIP: self.rule.clip, INSIDE: inside} if self._first.adapts else {})

    def closed(self, number: int, inside: float) -> None:
        """Round `number` is summed, and its checkpoint kept. Said again, it changes nothing."""
        if self._first.adapts and number == self._round:
            self.rule = self._first.clipped_to(self.rule.after(self.rule.clip, inside))
            self._round, self._inside = number + 1, inside

    def opened(self, event: Event) -> None:
        """A participant hears that a round was opened. What it thinks of its clip, `check` says."""
        if not self._first.adapts:
            return
        number, told = int(event.data["round"]), event.data.get(CLIP, 0.0)
        self.closed(number - 1, float(event.data.get(INSIDE, math.nan)))
        if number != self._round or not math.isclose(told, self.rule.clip, rel_tol=1e-9):
            self._refused = f"round {number} has a clip of {told}, which does not follow from the rounds before it"

    def check(self) -> None:
        """Raises SumRefused if a round was opened with a clip that is not the rule's."""
        if self._refused:
            raise SumRefused(self._refused)

    def recall(self, told: list[dict[str, Any]]) -> None:
        """A coordinator is back: what it told of the rounds that are closed."""
        for round_ in told:
            self.closed(round_["round"], round_.get("privacy", {}).get(INSIDE, math.nan))
