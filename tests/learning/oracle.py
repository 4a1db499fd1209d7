"""Models for tests of aggregation, and a folding played through with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from grid.learning.folding import BUDGET, Folding, Place
from grid.learning.layouts import state_layout
from grid.learning.strategy import Strategy
from grid.learning.tensors import Layout, TensorSpec
from grid.learning.weighing import Told

SIZE = 5
LAYOUT = Layout([TensorSpec("w", "F32", (SIZE,))])
Vector = NDArray[Any]

vectors = arrays(np.float32, SIZE, elements=st.integers(-64, 64).map(lambda n: n / 8), unique=False)


def lists(least: int, most: int = 9) -> st.SearchStrategy[list[Vector]]:
    return st.lists(vectors, min_size=least, max_size=most)


class Played:
    """A server of one strategy over models of five numbers; remembers where it is."""

    def __init__(self, strategy: Strategy, layout: Layout = LAYOUT, budget: int = BUDGET) -> None:
        self.state = memoryview(bytearray(state_layout(layout, strategy).size))
        self.outbox = memoryview(bytearray(layout.size))
        self.folding = Folding(strategy, layout, Place(self.outbox, self.state, budget=budget))

    def round(self, current: Vector, updates: Sequence[Vector], told: Sequence[Told] = ()) -> Vector:
        self.folding.begin(memoryview(current.astype(np.float32).tobytes()))
        for update, each in zip(updates, told or [Told(1.0)] * len(updates), strict=True):
            data = memoryview(update.astype(np.float32).tobytes())
            self.folding.check(data)
            self.folding.fold(data, each)
        self.folding.result()
        return np.frombuffer(bytes(self.outbox), np.float32)


def played(strategy: Strategy, current: Vector, updates: Sequence[Vector], told: Sequence[Told] = ()) -> Vector:
    return Played(strategy).round(current, updates, told)
