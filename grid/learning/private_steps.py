"""Steps that hide each record: a random part of them, clipped gradients, noise. For `training`, with torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import torch

from grid.learning.bookkeeping import BookKeeping, Sums
from grid.learning.objectives import CLASSES
from grid.learning.outcome import Estimate
from grid.learning.per_example import PerExample, chunk_of
from grid.learning.recipe import Dp, Graph, Recipe
from grid.learning.rehearsal import rehearse, shapes_of
from grid.learning.separable import PROBE, layers
from grid.learning.split import Indices
from grid.learning.state import State
from grid.privacy.noise import Draws
from grid.wire.problems import PlanRefused

Tensor = torch.Tensor
Take = Callable[[Indices], tuple[list[Tensor], Tensor]]
"""Features and targets of rows."""

Clipped = Callable[[Sequence[Tensor], Tensor, float], tuple[Sums, float]]
"""Sums of clipped gradients, by parameter, and of losses, of a batch: features, targets, bound."""


class Private:
    """How a private recipe's gradients are computed: by book-keeping where that is right, else example by example.

    `chunk` examples are held at a time, at most `batch`: their gradients take a part of the `memory` that is left.

    Raises:
        PlanRefused: there is not so much.
    """

    def __init__(self, recipe: Recipe, batch: int, memory: int = 1 << 31) -> None:
        self._recipe = recipe
        shapes = shapes_of(recipe, PROBE)
        output = shapes[recipe.model.outputs[0]] or ()
        own_loss = isinstance(recipe.loss, Graph) or (recipe.loss == CLASSES and len(output) < 2)
        self.layers = None if own_loss else layers(recipe.model, shapes)
        sizes = {entry.name: 4 * torch.Size(map(int, entry.shape)).numel() for entry in recipe.model.named("param")}
        if self.layers is not None:
            by_products = {layer.weight for layer in self.layers if _by_products(recipe, shapes, layer.place)}
            sizes = {name: size for name, size in sizes.items() if name not in by_products}
        each = sum(sizes.values())
        self.chunk = min(batch, chunk_of(each))
        if self.chunk * each > memory:
            raise PlanRefused(f"gradients of single examples would take {self.chunk * each} bytes more than a step may")

    def clipped(self, weights: State, constants: State, device: str) -> Clipped:
        """What computes sums of clipped gradients of these parameters."""
        if self.layers is None:
            return PerExample(self._recipe, weights, constants, device)
        return BookKeeping(self._recipe, self.layers, weights, constants, device)

    def steps(
        self, dp: Dp, rows: Indices, weights: State, take: Take, clipped: Clipped, secret: bytes
    ) -> Iterator[tuple[float, list[Tensor]]]:
        """Noised mean gradients, one for each parameter, without end; with each the mean loss, which is not noised.

        `secret` (16 random bytes, used once) says which rows are taken and what the noise is. A step may take no row:
        then it is noise alone. Sums are divided by how many rows a step takes on average.
        """
        draws, expected = Draws(secret), dp.rate * len(rows)
        sizes = [weight.numel() for weight in weights.values()]
        while True:
            chosen = rows[draws.chosen(len(rows), dp.rate)]
            sums: Sums = {}
            losses = 0.0
            for begin in range(0, len(chosen), self.chunk):
                found, loss = clipped(*take(chosen[begin : begin + self.chunk]), dp.clip)
                losses += loss
                sums |= {name: part.add_(sums[name]) if name in sums else part for name, part in found.items()}
            sums = {name: sums[name] if name in sums else torch.zeros_like(weights[name]) for name in weights}
            noise = torch.split(torch.from_numpy(draws.normals(sum(sizes))), sizes)
            for sum_, part in zip(sums.values(), noise, strict=True):
                sum_.add_(part.to(sum_.device).view_as(sum_), alpha=dp.noise * dp.clip).div_(expected)
            yield losses / max(len(chosen), 1), list(sums.values())


def planned(
    recipe: Recipe, batch: int, rows: int, target: tuple[str, Sequence[int]], memory: int
) -> tuple[int, Estimate]:
    """How many examples are computed with at a time, and what a step takes. `target`: dtype and shape of one.

    Steps of a private recipe are done at once where there is memory for what nearly every one takes, four standard
    deviations above the mean; else `batch` at a time, as others are.

    Raises:
        PlanRefused: shapes do not fit together, or there is not even so much memory.
    """
    dtype, shape = target[0], tuple(target[1])
    if recipe.dp is not None:
        expected = recipe.dp.rate * rows
        whole = min(rows, math.ceil(expected + 4 * math.sqrt(expected)))
        if whole > batch:
            with suppress(PlanRefused):
                return whole, rehearse(recipe, whole, memory, (dtype, (whole, *shape)), device="cpu")
    return batch, rehearse(recipe, batch, memory, (dtype, (batch, *shape)), device="cpu")


def _by_products(recipe: Recipe, shapes: Sequence[tuple[int, ...] | None], place: int) -> bool:
    """Whether contributions to a layer's weight are products of two rows, which are never computed."""
    node = recipe.model.nodes[place]
    return node.op == "aten.linear.default" and len(shapes[node.args[0]["ref"]] or ()) == 2
