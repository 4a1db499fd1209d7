"""The server's step: from the model of a round's beginning and the round's aggregate to the next model."""

from __future__ import annotations

import numpy as np

from grid.learning.arrays import views
from grid.learning.broadcasts import base_of
from grid.learning.layouts import MOMENTUM, SECOND, STEPS, Role
from grid.learning.spans import Block, Values, sane, stored, widened
from grid.learning.strategy import Adagrad, Adam, Asynchronous, Average, Exact, Momentum, Server, Strategy, Yogi
from grid.learning.tensors import Layout
from grid.wire.problems import UpdateRefused


class ServerStep:
    """Turns an aggregate into the next model, block by block, in place.

    `state` is a data section of `layout` (`layouts.state_layout`), zeros before the first step; it is written to, and
    holds what the next step needs: keep it beside the model. `current` is the server's model as the round began; what
    clients began with may be its rounding, and what they learned on top of that is added to the server's own.

    Source: Reddi et al. 2021, arXiv:2003.00295, Algorithm 2, where delta is the mean of the clients' changes.
    """

    def __init__(self, strategy: Strategy, layout: Layout, state: memoryview) -> None:
        self._strategy, self._rule, self._layout, self._state = strategy, strategy.server, layout, state
        self._deltas = strategy.sends_delta
        self._mixes_statistics = isinstance(strategy.timing, Asynchronous)
        self._steps = views(layout, state)[STEPS] if STEPS in layout.by_name else None

    def begin(self) -> None:
        """Before the blocks of one step. v begins at tau^2, the least that Algorithm 2 allows."""
        if self._steps is None:
            return
        if not self._steps[0] and isinstance(self._rule, Adagrad | Adam | Yogi):
            for name, view in views(self._layout, self._state).items():
                if name.startswith(SECOND):
                    view[...] = self._rule.tau**2
        self._steps[0] += 1

    def advance(self, block: Block, current: memoryview, reach: float, share: float) -> None:
        """Change a block of the aggregate into one of the next model.

        `reach` is that of `weighing`; `share` is SCAFFOLD's |S| / N.

        Raises:
            UpdateRefused: the next model would have numbers that are not finite or too large.
        """
        span, place, values = block
        if not span.is_float:
            return
        before = widened(stored(current, span)[place], span.dtype)
        if span.role is Role.CONTROL:  # c + |S|/N mean of the clients' changes: arXiv:1910.06378, equation 5
            values *= share
            values += before
        elif span.role is Role.STATISTIC:
            if self._mixes_statistics:
                _towards(values, before, reach)
        elif self._rule == Average() and not self._deltas and self._strategy.broadcast == Exact():
            _towards(values, before, reach)
        else:
            if not self._deltas:
                values -= base_of(before, span, self._strategy)
            values *= reach
            self._go(values, block, before)
        if not sane(values):
            raise UpdateRefused("the next model would have numbers that are not finite or too large")

    def _go(self, delta: Values, block: Block, before: Values) -> None:
        """From delta to the next model, in `delta`."""
        match self._rule:
            case Average(lr=lr):
                delta *= lr
            case Momentum(lr=lr, beta=beta):
                velocity = self._kept(MOMENTUM, block)
                velocity *= beta
                velocity += delta
                np.multiply(velocity, lr, out=delta)
            case rule:
                self._adapt(delta, block, rule)
        delta += before

    def _adapt(self, delta: Values, block: Block, rule: Adagrad | Adam | Yogi) -> None:
        """Algorithm 2: m = beta1 m + (1 - beta1) delta; the rule's v; the change is lr m / (sqrt(v) + tau)."""
        mean, second = self._kept(MOMENTUM, block), self._kept(SECOND, block)
        square = np.square(delta)
        mean *= rule.beta1
        delta *= 1 - rule.beta1
        mean += delta
        _grow(second, square, rule)
        np.sqrt(second, out=square)
        square += rule.tau
        np.divide(mean, square, out=delta)
        delta *= rule.lr

    def _kept(self, prefix: str, block: Block) -> Values:
        """The state of a block: tensors of a span follow each other in the state as they do in the model."""
        span, place, _ = block
        begin = self._layout.by_name[prefix + span.first].begin
        return np.ndarray((span.numbers,), span.wide, buffer=self._state, offset=begin)[place]


def _grow(second: Values, square: Values, rule: Server) -> None:
    match rule:
        case Yogi(beta2=beta2):
            second -= (1 - beta2) * square * np.sign(second - square)
        case Adam(beta2=beta2):
            second *= beta2
            second += (1 - beta2) * square
        case _:
            second += square


def _towards(values: Values, before: Values, reach: float) -> None:
    """before + reach (values - before): the values themselves, bit for bit, where reach is 1."""
    if reach != 1.0:
        values -= before
        values *= reach
        values += before
