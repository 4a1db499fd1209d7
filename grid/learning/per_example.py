"""Clipped gradients example by example: right for every plan, for no example ever meets another one.

Each example of a chunk gets weights of its own, the same numbers for all, and goes through the graph as a batch of one;
torch does that for all of them at once (what `torch.func.vmap` is made of: that itself loads torch._dynamo with its
first call, which a worker in its sandbox cannot). The gradients of these weights are then those of the examples.
Operations that torch cannot do side by side, recurrent ones, are done for one example after the other.
"""

# ruff: noqa: SLF001  torch._C._functorch is where the primitives of vmap are

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch

from grid.learning.bookkeeping import Sums, factors_of, squares_of, weighted
from grid.learning.interpreter import Program
from grid.learning.model import loss_function
from grid.learning.objectives import CLASSES
from grid.learning.recipe import Graph, Recipe
from grid.learning.state import State
from grid.wire.problems import PlanRefused

ROOM = 64 << 20
"""Bytes of gradients of single examples that are held at a time."""

ONE_BY_ONE = frozenset(f"aten.{kind}.input" for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu"))

Tensor = torch.Tensor


class PerExample:
    """Sums of clipped gradients of any plan. `weights` are the parameters, by name; they are read with each batch."""

    def __init__(self, recipe: Recipe, weights: State, constants: State, device: str) -> None:
        self._recipe, self._weights, self._constants = recipe, weights, constants
        self._program = Program(recipe.model, training=True, device=device)
        self._loss = loss_function(recipe, constants, training=True, device=device)
        self._one_by_one = any(node.op in ONE_BY_ONE for node in recipe.model.nodes)
        self.chunk = chunk_of(sum(weight.nbytes for weight in weights.values()))

    def __call__(self, features: Sequence[Tensor], target: Tensor, bound: float) -> tuple[Sums, float]:
        """The sum of the examples' gradients, each clipped to an L2 norm of `bound`, and the sum of their losses."""
        sums = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in self._weights.items()}
        total = 0.0
        for begin in range(0, len(target), self.chunk):
            part = slice(begin, begin + self.chunk)
            loss, found = self.gradients([feature[part] for feature in features], target[part])
            factors = factors_of(torch.stack([squares_of(rows) for rows in found.values()]).sum(0), bound)
            for name, rows in found.items():
                sums[name] += weighted(rows, factors)
            total += loss
        return sums, total

    def gradients(self, features: Sequence[Tensor], target: Tensor) -> tuple[float, State]:
        """The sum of the examples' losses, and each one's gradient of each parameter (b, ...) that it depends on.

        Raises:
            PlanRefused: one example alone does not give one result.
        """
        own = {
            name: weight.detach().unsqueeze(0).expand(len(target), *weight.shape).requires_grad_()
            for name, weight in self._weights.items()
        }
        loss = self._apart(own, features, target) if self._one_by_one else self._together(own, features, target)
        found: Sequence[Tensor | None] = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
        return loss.item(), {name: rows for name, rows in zip(own, found, strict=True) if rows is not None}

    def _together(self, own: State, features: Sequence[Tensor], target: Tensor) -> Tensor:
        with _side_by_side(len(target)) as side:
            weights = {name: side.enter(weight) for name, weight in own.items()}
            outputs = self._outputs(weights, [side.enter(feature).unsqueeze(0) for feature in features])
            if isinstance(self._recipe.loss, Graph):
                return side.leave(self._loss(outputs, side.enter(target).unsqueeze(0))).sum()
            output = side.leave(outputs[0])
        self._check_alone(output.shape[1:])
        return self._loss([output.squeeze(1)], target) * len(target)

    def _apart(self, own: State, features: Sequence[Tensor], target: Tensor) -> Tensor:
        losses = []
        for place in range(len(target)):
            alone = [feature[place : place + 1] for feature in features]
            outputs = self._outputs({name: weight[place] for name, weight in own.items()}, alone)
            if not isinstance(self._recipe.loss, Graph):
                self._check_alone(outputs[0].shape)
            losses.append(self._loss(outputs, target[place : place + 1]))
        return torch.stack(losses).sum()

    def _outputs(self, weights: State, features: Sequence[Tensor]) -> list[Tensor]:
        given, fixed = iter(features), {**self._constants, **weights}
        entries = self._recipe.model.inputs
        return self._program([next(given) if entry.kind == "input" else fixed[entry.name] for entry in entries])

    def _check_alone(self, shape: torch.Size) -> None:
        """One example's output is one row; of class scores, a row of scores."""
        if shape[:1] != (1,) or (self._recipe.loss == CLASSES and len(shape) < 2):
            raise PlanRefused(f"the output for one example has shape {list(shape)}; dp needs one row for it")


def chunk_of(size: int) -> int:
    """Examples in a chunk, of gradients of `size` bytes each."""
    return max(1, ROOM // max(size, 1))


class _Side(NamedTuple):
    """The way into a computation that runs side by side for the first dimension of what enters, and out of it."""

    enter: Callable[[Tensor], Tensor]
    leave: Callable[[Tensor], Tensor]


@contextmanager
def _side_by_side(count: int) -> Iterator[_Side]:
    primitives = torch._C._functorch
    level = primitives._vmap_increment_nesting(count, "different")
    try:
        with warnings.catch_warnings():  # of an operation without a rule for batches, which then is slow
            warnings.simplefilter("ignore", UserWarning)
            yield _Side(
                lambda tensor: primitives._add_batch_dim(tensor, 0, level),
                lambda tensor: primitives._remove_batch_dim(tensor, level, count, 0),
            )
    finally:
        primitives._vmap_decrement_nesting()
