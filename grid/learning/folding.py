"""One round of any strategy at the coordinator: updates in one after the other, the next model out.

A mean-type rule keeps one accumulator, which lies where the result will be, whatever the number of clients; the model
that the round began with, where the rule needs it; and the server's state, where the server optimizer has one.
A robust rule keeps the updates where it is told to, and reads them block-wise within a budget.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

import numpy as np

from grid.learning.aggregation import AddScaled, WeightedMean, add_scaled, check_length, check_update
from grid.learning.broadcasts import base_of
from grid.learning.layouts import Role, roles, state_layout, update_layout
from grid.learning.robust import SideBySide, Updates, UpdatesInMemory, robust_blocks
from grid.learning.server import ServerStep
from grid.learning.spans import Block, spans_of, store, stored, widened
from grid.learning.strategy import ROBUST, QFair, Strategy, least_updates
from grid.learning.tensors import Layout
from grid.learning.weighing import Told, Weighing
from grid.wire.problems import StrategyRefused, UpdateRefused

BUDGET = 64 << 20
"""Bytes that a robust rule works in, beside the result."""


@dataclass
class Place:
    """Where a folding works: `outbox` gets the next model; `state` is what the server keeps, read and written.

    `updates` keeps updates for rules that look at all of them, `budget` bytes are what those rules work in;
    `add_scaled` is the arithmetic of means.
    """

    outbox: memoryview
    state: memoryview = field(default_factory=lambda: memoryview(bytearray()))
    updates: Updates = field(default_factory=UpdatesInMemory)
    budget: int = BUDGET
    add_scaled: AddScaled = add_scaled


class Folding:
    """Round after round of one strategy: `begin`, then `check` and `fold` for each update, then `result`.

    `layout` is the plan's, `statistics` the names in it that are not trained.
    """

    def __init__(self, strategy: Strategy, layout: Layout, place: Place, statistics: Collection[str] = ()) -> None:
        self._strategy, self._place = strategy, place
        self.layout = update_layout(layout, strategy, statistics)
        self._spans = spans_of(self.layout, roles(self.layout, statistics))
        self._server = ServerStep(strategy, state_layout(layout, strategy, statistics), place.state)
        self._current = memoryview(bytearray(self.layout.size if strategy.needs_current else 0))
        self._outbox = place.outbox[: self.layout.size]
        self._knows = not strategy.needs_current
        self._population = 0
        self._open()

    def begin(self, current: memoryview | None = None, population: int = 0) -> None:
        """Start a round with nothing folded yet.

        `current` is the data section of the model that the round begins with, where `strategy.needs_current`; without
        it the last result is. `population` is the number of all clients, N in SCAFFOLD; 0: those who are folded.
        """
        if self._strategy.needs_current:
            if current is not None:
                check_length(self.layout, current)
                self._current[:] = current
                self._knows = True
            elif self._done:
                self._current[:] = self._outbox
        self._population = population
        self._open()

    def _open(self) -> None:
        self._mean = WeightedMean(self.layout, self._spans, self._outbox, self._place.add_scaled)
        self._weighing = Weighing(self._strategy)
        self._place.updates.clear()
        self._examples: list[float] = []
        self._done = False

    @property
    def current(self) -> memoryview:
        """The server's model as the round began; empty where the strategy does not need it."""
        return self._current

    def check(self, update: memoryview) -> None:
        """Refuse an update that would spoil the result.

        Raises:
            UpdateRefused: another length than the layout's, or a number that is NaN, infinite or beyond 1e15.
        """
        check_update(self.layout, self._spans, update)

    def fold(self, update: memoryview, told: Told) -> None:
        """Take in one checked update.

        Raises:
            UpdateRefused: a number that the strategy needs was not told or is not believable; or the round is over.
        """
        if self._done or not self._knows:
            raise UpdateRefused("the round is over" if self._done else "the round began without its model")
        if not 0 < told.examples < np.inf:
            raise UpdateRefused(f"a weight of {told.examples}; it must be above 0")
        if isinstance(self._strategy.aggregation, ROBUST):
            check_length(self.layout, update)
            self._place.updates.append(update)
        else:
            plain = self._weighing.plain(told)
            weight = self._weighing.weigh(told, self._distance(update))
            self._mean.add(update, weight, {Role.STATISTIC: plain, Role.CONTROL: 1.0})
        self._examples.append(told.examples)

    def result(self) -> None:
        """Write the next model to the outbox, and what the server keeps to the state. Asked twice, it is done once.

        Raises:
            StrategyRefused: too few updates for what the strategy promises.
            UpdateRefused: the next model would not be finite.
        """
        if self._done:
            return
        least = 1 if self._strategy.masked else least_updates(self._strategy)  # masked ones come as one, summed
        if len(self._examples) < least:
            raise StrategyRefused(f"{len(self._examples)} updates; this strategy needs at least {least}")
        steps, share = self._strategy.needs_current, self._share()
        reach = self._weighing.reach
        self._server.begin()
        for block in self._blocks():
            if steps:
                self._server.advance(block, self._current, reach, share)
            store(block.values, stored(self._outbox, block.span)[block.place], block.span.dtype)
        self._done = True

    def _blocks(self) -> Iterator[Block]:
        rule = self._strategy.aggregation
        if not isinstance(rule, ROBUST):
            return self._mean.blocks()
        rows = SideBySide(self._place.updates, self.layout, self._spans, self._place.budget)
        return robust_blocks(rule, rows, self._examples, self._outbox)

    def _share(self) -> float:
        """|S| / N, for the control variates."""
        return len(self._examples) / max(self._population, len(self._examples))

    def _distance(self, update: memoryview) -> float:
        """||w_k - w||^2 over the parameters, for the rule that asks; w is what the client began with."""
        total = 0.0
        if not isinstance(self._strategy.aggregation, QFair):
            return total
        check_length(self.layout, update)
        for span in self._spans:
            if span.role is Role.PARAMETER:
                theirs, ours = stored(update, span), stored(self._current, span)
                for place in span.blocks():
                    base = base_of(widened(ours[place], span.dtype), span, self._strategy)
                    apart = widened(theirs[place], span.dtype) - base
                    total += float(np.dot(apart, apart))
        return total
