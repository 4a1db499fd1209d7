"""Reports of one model, added up as they come."""

from __future__ import annotations

import math
from collections.abc import Mapping


class Tally:
    """The mean of each metric, weighted by examples, over the `nodes` that reported it.

    `nodes` holds what each one said: its examples, and the metrics that are numbers. `heard` are all that had
    their say, also those that had nothing to measure.
    """

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, int] = {}
        self.heard: set[str] = set()
        self.nodes: dict[str, tuple[int, dict[str, float]]] = {}
        self.examples = 0

    def pass_over(self, node: str) -> None:
        """This node will not report."""
        self.heard.add(node)

    def add(self, node: str, metrics: Mapping[str, float], examples: int) -> None:
        """One node's report on `examples` examples; a second one of the same node is passed over.

        A metric that is no finite number is left out: it would spoil the mean of all.
        """
        if node in self.heard:
            return
        self.heard.add(node)
        if examples < 1:
            return
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        self.nodes[node] = examples, finite
        self.examples += examples
        for name, value in finite.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * examples
            self._weights[name] = self._weights.get(name, 0) + examples

    def means(self) -> dict[str, float]:
        """Each metric's mean so far."""
        return {name: total / self._weights[name] for name, total in self._sums.items()}
