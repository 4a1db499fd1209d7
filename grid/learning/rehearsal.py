"""One training step on zeros, to see that a plan fits its own shapes and how much memory it takes.

Either on torch's `meta` device, whose tensors have shapes and no storage, or on the processor, in a
sandboxed worker whose address space is bounded: kernels of the meta device load torch._dynamo, which
costs a worker 2 s and 90 MB. Both ways no data has been read yet.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from grid.learning.interpreter import TORCH_TYPES, Program
from grid.learning.model import Model
from grid.learning.objectives import CLASSES
from grid.learning.outcome import Estimate
from grid.learning.recipe import BATCH, Adagrad, Adam, AdamW, Graph, Input, Recipe, RmsProp, Sgd
from grid.learning.validate import held_by, trained_by
from grid.wire.problems import PlanRefused

Shape = tuple[int, ...]


def rehearse(
    recipe: Recipe, batch: int, limit: int, target: tuple[str, Shape] | None = None, *, device: str = "meta"
) -> Estimate:
    """Estimate one training step on a batch of `batch` examples.

    Counted are parameters, gradients, optimizer state, and all results of the forward pass twice (their
    gradients too). `target` is dtype and shape of a batch's targets; without it a named loss gets fitting ones.

    Raises:
        PlanRefused: shapes do not fit together, or more than `limit` bytes would be needed.
    """
    try:
        return _rehearse(recipe, batch, limit, target, device)
    except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError, NotImplementedError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise PlanRefused(f"the plan does not fit its own shapes: {reason[:300]}") from None


def shapes_of(recipe: Recipe, batch: int) -> list[Shape | None]:
    """The shape of each value of a plan's model for a batch of zeros; None for what is no tensor.

    Raises:
        PlanRefused: shapes do not fit together.
    """
    entries = recipe.model.inputs
    with torch.no_grad():
        zeros = [_zeros(entry.dtype, _sized(entry, batch), "cpu") for entry in entries]
        program = Program(recipe.model, training=True)
        try:
            *results, _ = program.watched(zeros)
        except (RuntimeError, TypeError, ValueError, IndexError, ZeroDivisionError, NotImplementedError) as error:
            raise PlanRefused(f"the plan does not fit a batch of {batch} ({type(error).__name__})") from None
    return [tuple(value.shape) if isinstance(value, torch.Tensor) else None for value in (*zeros, *results)]


def _rehearse(recipe: Recipe, batch: int, limit: int, target: tuple[str, Shape] | None, device: str) -> Estimate:
    memory = trained_by(recipe).size * (2 + _slots(recipe))
    meter = _Meter(limit, memory)
    tensors = {spec.name: _zeros(spec.dtype, spec.shape, device) for spec in held_by(recipe).specs}
    for entry in recipe.model.named("param"):
        tensors[entry.name].requires_grad_()
    features = [_zeros(entry.dtype, _sized(entry, batch), device) for entry in recipe.model.named("input")]
    meter.skip([*tensors.values(), *features])
    model = Model(recipe, tensors, tensors, training=True, device=device)
    outputs: list[Any] = []
    for outputs in model.program.watched(model.feed(features)):
        meter.add(outputs)
    if not all(isinstance(output, torch.Tensor) for output in outputs):
        raise PlanRefused("an output of the model is not a tensor")
    wanted = _zeros(*(target or _target(recipe, outputs[0], batch)), device)
    if not model.loss(outputs, wanted).requires_grad:
        raise PlanRefused("the loss does not depend on any parameter")
    return Estimate(meter.memory, tuple(tuple(output.shape) for output in outputs))


class _Meter:
    """Adds up storage, each once, and stops at the limit."""

    def __init__(self, limit: int, memory: int) -> None:
        self._limit, self.memory = limit, memory
        self._kept: dict[int, torch.UntypedStorage] = {}  # kept, so that no address comes twice

    def skip(self, tensors: list[torch.Tensor]) -> None:
        """Storage that is there anyway; a result may be a view of it."""
        self._kept |= {_address(tensor): tensor.untyped_storage() for tensor in tensors}

    def add(self, result: Any) -> None:
        for tensor in _tensors(result):
            if _address(tensor) not in self._kept:
                self._kept[_address(tensor)] = tensor.untyped_storage()
                self.memory += 2 * tensor.untyped_storage().nbytes()
        if self.memory > self._limit:
            raise PlanRefused(f"a step would take more than {self._limit} bytes of memory")


def _address(tensor: torch.Tensor) -> int:
    """Which storage a tensor has; storage on the meta device has no data pointer."""
    return tensor.untyped_storage()._cdata  # type: ignore[no-any-return]  # noqa: SLF001


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


def _zeros(dtype: str, shape: Shape, device: str) -> torch.Tensor:
    return torch.zeros(shape, dtype=TORCH_TYPES[dtype], device=device)


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
