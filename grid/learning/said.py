"""What nodes say of themselves inside vectors under masks, and what the sum says of all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Own(NamedTuple):
    """What a node says of itself in its vector: examples it learned from and their loss; examples that it holds out,
    and the metrics of the model that came on those, in the order of the plan's names."""

    examples: int
    loss: float
    held_out: int = 0
    metrics: Sequence[float] = ()


class Summed(NamedTuple):
    """The same of all together, means weighted by examples. Who has too many counts as with the most.

    With noise, `examples` are nodes, nothing is measured, and `inside` is the share of them that was within the clip,
    noised as well, where the clip follows it.
    """

    examples: float
    loss: float
    held_out: float
    metrics: Sequence[float]
    inside: float = 0.0
