"""What training gives back, whatever it was done with."""

from __future__ import annotations

from typing import NamedTuple


class Fitted(NamedTuple):
    """What a fit did: `loss` is the mean over the batches it saw, `lr` the rate that the round's schedule gave."""

    examples: int
    steps: int
    loss: float
    lr: float = 0.0


class Score(NamedTuple):
    """How a model does: means over `examples` rows, `None` where there are none."""

    examples: int
    loss: float | None
    metrics: dict[str, float]


class Estimate(NamedTuple):
    """What a training step takes: `memory` in bytes, beyond the dataset; the shapes of the model's outputs."""

    memory: int
    outputs: tuple[tuple[int, ...], ...]
