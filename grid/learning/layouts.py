"""What a strategy lets travel beside the model, and what server and clients keep between rounds. Pure.

`layout` is a plan's layout throughout, `statistics` the names in it that are not trained: running statistics.
They are averaged plainly by every mean, and no server optimizer, control variate or delta knows of them; the robust
rules treat them as any other number, since a liar could hide there. Whole numbers are counters: the largest stays.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from enum import Enum

from grid.learning.recipe import Recipe
from grid.learning.strategy import Adagrad, Adam, Exact, Int8, Masked, Momentum, Scaffold, Strategy, TopK, Yogi
from grid.learning.tensors import FLOATS, Layout, TensorSpec

CONTROL = "control:"
"""Stands before the names of control variates. No tensor of a plan has a colon in its name."""

MOMENTUM, SECOND, STEPS = "momentum:", "second:", "steps"
"""The server's state: moving averages of deltas and of their squares, and how many steps it took."""


INT8, SCALE, INDEX, VALUE, RESIDUAL = "delta:int8", "delta:scale", "delta:index", "delta:value", "residual:"
"""What stands for the parameters of an encoded update, and what a node keeps of those that it left out."""

MASKED = "masked"
"""The one tensor of an update under masks."""

MASKED_METRICS = 16
"""Numbers at its end for what a node says of itself: its weight, its loss, and what it measured."""

PART = "part:sum"
"""What a node adds to an analysis; the other tensors of its layout are what is known."""

LIMBS = 5
"""Numbers under masks that stand for one of an analysis (`limbs`)."""

SCALED = 512
"""Numbers that have one scale in common."""


class Role(Enum):
    """What a tensor of an update is."""

    PARAMETER = "parameter"
    STATISTIC = "statistic"
    CONTROL = "control"


def statistics_of(recipe: Recipe) -> tuple[str, ...]:
    """The tensors of a plan's layout that are not trained."""
    return tuple(entry.name for entry in recipe.model.named("buffer"))


def model_layout(layout: Layout, strategy: Strategy, statistics: Collection[str] = ()) -> Layout:
    """What a round begins with, and the coordinator keeps as a checkpoint: the model, SCAFFOLD's c beside it.

    Of an analysis, what is known.
    """
    return Layout((*(spec for spec in layout.specs if spec.name != PART), *_controls(layout, strategy, statistics)))


def broadcast_layout(layout: Layout, strategy: Strategy, statistics: Collection[str] = ()) -> Layout:
    """A model as it travels: as it is, or with its float32 parameters as bfloat16 (`broadcasts`)."""
    model = model_layout(layout, strategy, statistics)
    if strategy.broadcast == Exact():
        return model
    kinds = roles(model, statistics)
    halved = {spec for spec in model.specs if kinds[spec.name] is Role.PARAMETER and spec.dtype == "F32"}
    return Layout(TensorSpec(spec.name, "BF16", spec.shape) if spec in halved else spec for spec in model.specs)


def update_layout(layout: Layout, strategy: Strategy, statistics: Collection[str] = ()) -> Layout:
    """What a participant sends: a model (or its delta), for SCAFFOLD the change of its variate c_i beside it.

    For an analysis, it is its part alone.
    """
    if strategy.analyses:
        return Layout((layout.by_name[PART].spec,))
    return model_layout(layout, strategy, statistics)


def upload_layout(layout: Layout, strategy: Strategy, statistics: Collection[str] = ()) -> Layout:
    """An update as it travels: as it is, or with all parameters in a row, encoded (`codec`)."""
    plain = update_layout(layout, strategy, statistics)
    if strategy.upload == Exact():
        return plain
    kinds, numbers = roles(plain, statistics), parameters(plain, statistics)
    others = [spec for spec in plain.specs if kinds[spec.name] is not Role.PARAMETER]
    match strategy.upload:
        case Int8():
            coded = [TensorSpec(SCALE, "F32", (-(-numbers // SCALED),)), TensorSpec(INT8, "I8", (numbers,))]
        case TopK(share=share):
            kept = math.ceil(share * numbers)
            coded = [TensorSpec(INDEX, "I32", (kept,)), TensorSpec(VALUE, "F32", (kept,))]
        case Masked():
            return Layout([TensorSpec(MASKED, "I32", (masked_numbers(layout, strategy, statistics),))])
    return Layout([*others, *coded])


def residual_layout(layout: Layout, strategy: Strategy, statistics: Collection[str] = ()) -> Layout:
    """What a participant keeps of what its encoded updates left out; zeros before the first."""
    if strategy.upload == Exact() or strategy.masked:
        return Layout(())
    return Layout([TensorSpec(RESIDUAL, "F32", (parameters(layout, statistics),))])


def masked_numbers(layout: Layout, strategy: Strategy, statistics: Collection[str] = ()) -> int:
    """How many numbers a vector under masks has: whole ones count, have no mean, and stay as they came."""
    plain = update_layout(layout, strategy, statistics)
    if strategy.analyses:
        return sum(math.prod(spec.shape) for spec in plain.specs) * LIMBS
    return sum(math.prod(spec.shape) for spec in plain.specs if spec.dtype in FLOATS) + MASKED_METRICS


def parameters(layout: Layout, statistics: Collection[str] = ()) -> int:
    """How many numbers are trained."""
    kinds = roles(layout, statistics)
    return sum(math.prod(spec.shape) for spec in layout.specs if kinds[spec.name] is Role.PARAMETER)


def state_layout(layout: Layout, strategy: Strategy, statistics: Collection[str] = ()) -> Layout:
    """What the server optimizer keeps from round to round; nothing for `Average`. All zeros before the first."""
    prefixes = {Momentum: (MOMENTUM,), Adagrad: (MOMENTUM, SECOND), Adam: (MOMENTUM, SECOND), Yogi: (MOMENTUM, SECOND)}
    kept = prefixes.get(type(strategy.server), ())
    steps = [TensorSpec(STEPS, "I64", (1,))] if kept else []
    return Layout([*steps, *(spec for prefix in kept for spec in _like_parameters(prefix, layout, statistics))])


def own_layout(layout: Layout, strategy: Strategy, statistics: Collection[str] = ()) -> Layout:
    """What a participant keeps from round to round: SCAFFOLD's c_i. All zeros before the first."""
    return Layout(_controls(layout, strategy, statistics))


def first_model(layout: Layout, values: Mapping[str, bytes | memoryview]) -> Iterator[bytes | memoryview]:
    """The data section of a model layout: a plan's first values, and zeros for what the strategy adds."""
    for spec in layout.specs:
        yield bytes(spec.size) if spec.name.startswith(CONTROL) else values[spec.name]


def pick(wanted: Layout, layout: Layout, data: memoryview) -> Iterator[memoryview]:
    """The data section of `wanted`, in pieces, out of that of a layout with more tensors in it."""
    for spec in wanted.specs:
        slot = layout.by_name[spec.name]
        yield data[slot.begin : slot.end]


def roles(layout: Layout, statistics: Collection[str] = ()) -> dict[str, Role]:
    """What each tensor of an update is."""

    def role(spec: TensorSpec) -> Role:
        if spec.name.startswith(CONTROL):
            return Role.CONTROL
        trained = spec.dtype in FLOATS and spec.name not in statistics
        return Role.PARAMETER if trained else Role.STATISTIC

    return {spec.name: role(spec) for spec in layout.specs}


def _controls(layout: Layout, strategy: Strategy, statistics: Collection[str]) -> list[TensorSpec]:
    return _like_parameters(CONTROL, layout, statistics) if isinstance(strategy.client, Scaffold) else []


def _like_parameters(prefix: str, layout: Layout, statistics: Collection[str]) -> list[TensorSpec]:
    """A tensor for each parameter, of the type that sums are made in."""
    kinds = roles(layout, statistics)
    trained = [spec for spec in layout.specs if kinds[spec.name] is Role.PARAMETER]
    return [TensorSpec(prefix + spec.name, "F64" if spec.dtype == "F64" else "F32", spec.shape) for spec in trained]
