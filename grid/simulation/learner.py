"""The port to what is learned: nothing at all, or real fits (`fits`)."""

from __future__ import annotations

from typing import Any, Protocol


class Learner(Protocol):
    """Folds updates as they are counted, and makes the next model of them."""

    @property
    def model(self) -> Any:
        """The present model; it is never changed, so whoever has fetched it keeps what it fetched."""

    @property
    def done(self) -> bool:
        """Whether it has learned what it was to learn."""

    def fold(self, model: Any, node: int, examples: int, worth: float) -> None:
        """Fit the model on a node's own examples, and count what came of it by these two together."""

    def publish(self) -> float | None:
        """Make the next model of what was folded; its loss, if there is one."""

    def discard(self) -> None:
        """Forget what was folded."""


class Nothing:
    """Learns nothing: only times and bytes are simulated."""

    model = None
    done = False

    def fold(self, model: object, node: int, examples: int, worth: float) -> None:
        """Nothing is learned from it."""

    def publish(self) -> None:
        """Nothing was learned."""

    def discard(self) -> None:
        """There is nothing to forget."""
