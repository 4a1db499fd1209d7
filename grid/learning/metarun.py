"""Runs a plan without numbers: on tensors of torch's `meta` device, which have shapes and no storage.

So a plan that does not fit its own shapes, or would need too much memory, is refused before any data is read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from grid.learning.interpreter import TORCH_TYPES
from grid.learning.model import Model
from grid.learning.objectives import CLASSES
from grid.learning.recipe import BATCH, Adagrad, Adam, AdamW, Graph, Input, Recipe, RmsProp, Sgd
from grid.learning.tensors import Layout
from grid.learning.validate import held_by, trained_by
from grid.wire.problems import PlanRefused

Shape = tuple[int, ...]


class Estimate(NamedTuple):
    """What a training step takes: `memory` in bytes, beyond the dataset; the shapes of the model's outputs."""

    memory: int
    outputs: tuple[Shape, ...]


def meta_run(recipe: Recipe, batch: int, limit: int, target: tuple[str, Shape] | None = None) -> Estimate:
    """Estimate one training step on a batch of `batch` examples.

    Counted are parameters, gradients, optimizer state, and all results of the forward pass twice (their
    gradients too). `target` is dtype and shape of a batch's targets; without it a named loss gets fitting ones.

    Raises:
        PlanRefused: shapes do not fit together, or more than `limit` bytes would be needed.
    """
    try:
        return _meta_run(recipe, batch, limit, target)
    except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise PlanRefused(f"the plan does not fit its own shapes: {reason[:300]}") from None


def _meta_run(recipe: Recipe, batch: int, limit: int, target: tuple[str, Shape] | None) -> Estimate:
    state = _meta_tensors(trained_by(recipe))
    for entry in recipe.model.named("param"):
        state[entry.name].requires_grad_()
    constants = _meta_tensors(held_by(recipe), without=state)
    model = Model(recipe, state, constants, training=True, device="meta")
    features = [_meta(entry.dtype, _sized(entry, batch)) for entry in recipe.model.named("input")]
    memory = trained_by(recipe).size * (2 + _slots(recipe))
    meter = _Meter(limit, memory)
    outputs: list[Any] = []
    for outputs in model.program.watched(model.feed(features)):
        meter.add(outputs)
    if not all(isinstance(output, torch.Tensor) for output in outputs):
        raise PlanRefused("an output of the model is not a tensor")
    wanted = _meta(*(target or _target(recipe, outputs[0], batch)))
    if not model.loss(outputs, wanted).requires_grad:
        raise PlanRefused("the loss does not depend on any parameter")
    return Estimate(meter.memory, tuple(tuple(output.shape) for output in outputs))


class _Meter:
    """Adds up storage, each once, and stops at the limit."""

    def __init__(self, limit: int, memory: int) -> None:
        self._limit, self.memory = limit, memory
        self._kept: dict[int, torch.UntypedStorage] = {}  # kept, so that no address comes twice

    def add(self, result: Any) -> None:
        for tensor in _tensors(result):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._kept:
                self._kept[storage._cdata] = storage
                self.memory += 2 * storage.nbytes()
        if self.memory > self._limit:
            raise PlanRefused(f"a step would take more than {self._limit} bytes of memory")


def _tensors(result: Any) -> Iterator[torch.Tensor]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, (list, tuple)):
        for part in result:
            yield from _tensors(part)


def _slots(recipe: Recipe) -> int:
    """How many copies of the model the optimizer keeps, with what it needs in passing."""
    match recipe.optimizer:
        case Sgd(momentum=momentum, weight_decay=decay):
            return bool(momentum) + bool(decay)
        case Adam() | AdamW():
            return 3
        case RmsProp() | Adagrad():
            return 2


def _meta(dtype: str, shape: Shape) -> torch.Tensor:
    return torch.empty(shape, dtype=TORCH_TYPES[dtype], device="meta")


def _meta_tensors(layout: Layout, without: dict[str, torch.Tensor] | None = None) -> dict[str, torch.Tensor]:
    return {spec.name: _meta(spec.dtype, spec.shape) for spec in layout.specs if spec.name not in (without or {})}


def _sized(entry: Input, batch: int) -> Shape:
    return tuple(batch if size == BATCH else int(size) for size in entry.shape)


def _target(recipe: Recipe, output: torch.Tensor, batch: int) -> tuple[str, Shape]:
    """Dtype and shape of a batch of targets, as the loss wants them."""
    if isinstance(recipe.loss, Graph):
        entry = recipe.loss.named("input")[-1]
        return entry.dtype, _sized(entry, batch)
    if recipe.loss == CLASSES:
        classes_at_1 = output.shape[:1] + output.shape[2:]
        return "I64", tuple(classes_at_1)
    return "F32", tuple(output.shape)


