"""Updates that are only ever seen summed: what a node learned as one vector under masks, and the sum as a model again.

A node's vector is its weight times what it learned, beside the weight itself and, weighted likewise, what it measured:
the sum gives the weighted mean, and nobody's weight or metrics by themselves. Nodes clip every number themselves.
Whole numbers, such as the batches that a layer has seen, are not in it: they stay as they came.
Weights are the node's examples as a share of `Masked.most`; whoever has more counts as with so many.

Source: Bonawitz et al. 2017, ePrint 2017/281, sections 4 and 7.1 (weighted means).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from grid.learning.layouts import MASKED_METRICS, masked_numbers, roles, update_layout
from grid.learning.masking import Numbers, Quantiser, Ring, mask
from grid.learning.said import Own, Summed
from grid.learning.spans import spans_of, store, stored, widened
from grid.learning.strategy import Masked, Strategy
from grid.learning.tensors import Layout
from grid.privacy.noise import gaussians
from grid.wire.problems import UpdateRefused

METRIC_UNIT = 64.0
"""Metrics travel in this unit, so that a loss of up to 64 times `Masked.bound` is not clipped."""


class Vectors:
    """Vectors of one strategy over up to `parties` nodes. `layout` is the plan's, `metrics` how many it measures.

    `clip`: that of the round, where it is not the first one's.
    """

    def __init__(
        self,
        strategy: Strategy,
        layout: Layout,
        statistics: tuple[str, ...],
        metrics: int,
        parties: int,
        clip: float = 0.0,
    ) -> None:
        assert isinstance(strategy.upload, Masked)
        self._rule, self._metrics = strategy.upload.clipped_to(clip) if clip else strategy.upload, metrics
        self._layout = update_layout(layout, strategy, statistics)
        self._spans = spans_of(self._layout, roles(self._layout, statistics))
        self.numbers = masked_numbers(layout, strategy, statistics)
        self._learned = self.numbers - MASKED_METRICS
        self._quantiser = Quantiser(self._rule.bound, parties)

    def vector(
        self, before: memoryview, after: memoryview, own: Own, rng: np.random.Generator, seed: bytes = b""
    ) -> Ring:
        """A node's vector, uint32 (`numbers`,), without masks. `before` and `after` are models (data sections).

        Its noise, where the strategy wants some, comes from the `seed`: 16 random bytes that are used once.
        """
        if self._rule.noisy:
            own = Own(self._rule.most, 0.0)  # how many there are, and how they did, would tell of them as well
        drawn = np.zeros(self.numbers, np.float32)
        weight, held = (self._share(count) for count in (own.examples, own.held_out))
        at = 0
        for span in self._spans:
            if not span.is_float:
                continue
            old, new = stored(before, span), stored(after, span)
            for place in span.blocks():
                learned = widened(new[place], span.dtype) - widened(old[place], span.dtype)
                drawn[at : at + len(learned)] = learned * weight
                at += len(learned)
        within = self._hide(drawn[:at], seed) if self._rule.noisy else 0.0
        measured = [held * value / METRIC_UNIT for value in own.metrics[: self._metrics]]
        said = [weight, (weight * own.loss + within) / METRIC_UNIT, held, *measured]
        drawn[at : at + len(said)] = np.multiply(said, self._rule.bound)  # none of them is clipped
        return self._quantised(drawn, rng)

    def unfold(self, total: Ring, count: int, current: memoryview, target: memoryview) -> Summed:
        """The mean of what `count` nodes learned, added to `current` in `target`; and what they said of themselves.

        Raises:
            UpdateRefused: the weights add up to nothing.
        """
        said = self._quantiser.mean(total[self._learned :][: 3 + self._metrics], count)
        weight, loss, held, *metrics = (said / self._rule.bound).tolist()
        if weight * count < 0.5 / self._rule.most:
            raise UpdateRefused("the weights of this sum add up to nothing")
        at = 0
        for span in self._spans:
            old, new = stored(current, span), stored(target, span)
            if not span.is_float:
                new[:] = old
                continue
            for place in span.blocks():
                base = widened(old[place], span.dtype)
                learned = self._quantiser.mean(total[at : at + len(base)], count) / weight
                store((base + learned).astype(base.dtype), new[place], span.dtype)
                at += len(base)
        if self._rule.noisy:
            return Summed(float(count), 0.0, 0.0, (), loss * METRIC_UNIT + 0.5 if self._rule.adapts else 0.0)
        told = held * count * self._rule.most > 0.5
        return Summed(
            examples=weight * count * self._rule.most,
            loss=loss / weight * METRIC_UNIT,
            held_out=held * count * self._rule.most if told else 0.0,
            metrics=tuple(value / held * METRIC_UNIT for value in metrics) if told else (),
        )

    def _hide(self, learned: Numbers, seed: bytes) -> float:
        """Scale a vector down to the clip, and add this node's share of the noise.

        Whether it was within the clip, as 1/2 or -1/2, and with its share of the noise on that; 0 if nobody asks.
        """
        norm = math.sqrt(sum(float(np.dot(part, part)) for part in np.array_split(learned.astype(np.float64), 64)))
        learned *= min(1.0, self._rule.clip / norm) if norm else 1.0
        nodes = math.sqrt(self._rule.least)
        share, at, drawn = self._rule.learned_noise * self._rule.clip / nodes, 0, 0.0
        for block in gaussians(seed, len(learned) + 1):
            taken = block[: len(learned) - at]
            learned[at : at + len(taken)] += share * taken
            at += len(taken)
            drawn = float(block[-1])
        if not self._rule.adapts:
            return 0.0
        return (0.5 if norm <= self._rule.clip else -0.5) + self._rule.share_noise / nodes * drawn

    def _share(self, count: int) -> float:
        return min(count, self._rule.most) / self._rule.most

    def _quantised(self, numbers: Numbers, rng: np.random.Generator) -> Ring:
        try:
            return self._quantiser.quantise(numbers, rng)
        except ValueError as error:
            raise UpdateRefused(str(error)) from None


class RingSum:
    """The sum of masked vectors of one round: one accumulator, whatever their number."""

    def __init__(self, numbers: int) -> None:
        self._total: Ring = np.zeros(numbers, np.uint32)
        self.count = 0

    def begin(self) -> None:
        """Nothing is in it."""
        self._total[:] = 0
        self.count = 0

    def add(self, vector: memoryview) -> None:
        """One vector, as it came."""
        self._total += np.frombuffer(vector, "<u4", len(self._total))
        self.count += 1

    def lifted(self, added: Iterable[bytes], subtracted: Iterable[bytes]) -> Ring:
        """The sum without its masks: the keystreams of these seeds added and subtracted. The sum itself stays."""
        total = self._total.copy()
        mask(total, added, subtracted)
        return total
