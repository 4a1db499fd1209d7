"""Reports of one model, added up as they come."""

from __future__ import annotations

from collections.abc import Mapping


class Tally:
    """The mean of each metric, weighted by examples, over the nodes that reported it."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._weights: dict[str, int] = {}
        self.nodes: set[str] = set()
        self.examples = 0

    def add(self, node: str, metrics: Mapping[str, float], examples: int) -> None:
        """One node's report on `examples` examples; a second one of the same node is passed over."""
        if node in self.nodes or examples < 1:
            return
        self.nodes.add(node)
        self.examples += examples
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value * examples
            self._weights[name] = self._weights.get(name, 0) + examples

    def means(self) -> dict[str, float]:
        """Each metric's mean so far."""
        return {name: total / self._weights[name] for name, total in self._sums.items()}
