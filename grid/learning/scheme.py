"""A plan, or a question, under a strategy: which tensors travel down and up in a run, and which are kept between."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import cached_property

from grid.learning.layouts import (
    broadcast_layout,
    first_model,
    masked_numbers,
    model_layout,
    pick,
    state_layout,
    statistics_of,
    upload_layout,
)
from grid.learning.plan import Plan
from grid.learning.strategy import Strategy, check_recipe
from grid.learning.study import Study
from grid.learning.tensors import Layout, header_bytes
from grid.wire.problems import StrategyRefused


class Scheme:
    """What the models of one run look like.

    Raises:
        StrategyRefused: the strategy asks of clients what this plan's optimizer cannot do, or is not for it.
    """

    def __init__(self, plan: Plan | Study, strategy: Strategy) -> None:
        self.layout, self.strategy = plan.layout, strategy
        self.statistics, self.metrics, self.metadata = (), (), {}
        if strategy.analyses != isinstance(plan, Study):
            raise StrategyRefused("what is added up answers a question, and a question is answered by adding up")
        if isinstance(plan, Study):
            self.metadata = plan.metadata
        else:
            check_recipe(strategy, plan.recipe)
            self.statistics, self.metrics = statistics_of(plan.recipe), ("loss", *plan.recipe.metrics)
        self._values = plan.values

    statistics: tuple[str, ...]
    metrics: tuple[str, ...]
    metadata: dict[str, str]

    @property
    def header(self) -> bytes:
        """The layout as the sum's seat is told of it, with the question, if it is one."""
        return header_bytes(self.layout, self.metadata)

    @cached_property
    def model(self) -> Layout:
        """What a round begins with, and the coordinator keeps as a checkpoint."""
        return model_layout(self.layout, self.strategy, self.statistics)

    @cached_property
    def broadcast(self) -> Layout:
        """A model as the coordinator sends it."""
        return broadcast_layout(self.layout, self.strategy, self.statistics)

    @cached_property
    def update(self) -> Layout:
        """What a participant hands in."""
        return upload_layout(self.layout, self.strategy, self.statistics)

    @cached_property
    def masked_numbers(self) -> int:
        """How many numbers a vector under masks has."""
        return masked_numbers(self.layout, self.strategy, self.statistics)

    @cached_property
    def state(self) -> Layout:
        """What the server keeps from round to round."""
        return state_layout(self.layout, self.strategy, self.statistics)

    def first(self) -> Iterator[memoryview]:
        """The data section of the model that a run begins with, in pieces."""
        return map(memoryview, first_model(self.model, self._values))

    def let_go(self) -> None:
        """Values that are the mapped pages of a file leave memory; they are read again if asked for again."""
        maps = {id(value.obj): value.obj for value in self._values.values() if isinstance(value, memoryview)}
        for pages in maps.values():
            if isinstance(pages, mmap.mmap):
                pages.madvise(mmap.MADV_DONTNEED)

    def plain(self, data: memoryview) -> bytes:
        """Of a model's data section, what belongs to the plan alone."""
        mine = Layout(spec for spec in self.layout.specs if spec.name in self.model.by_name)
        return b"".join(pick(mine, self.model, data))
