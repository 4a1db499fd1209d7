"""Steps that hide each record: a random part of them, clipped gradients, noise. For `training`, with torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from grid.learning.bookkeeping import BookKeeping, Sums
from grid.learning.objectives import CLASSES
from grid.learning.per_example import PerExample, chunk_of
from grid.learning.recipe import Dp, Graph, Recipe
from grid.learning.rehearsal import shapes_of
from grid.learning.separable import PROBE, layers
from grid.learning.split import Indices
from grid.learning.state import State
from grid.privacy.noise import Draws

Tensor = torch.Tensor
Take = Callable[[Indices], tuple[list[Tensor], Tensor]]
"""Features and targets of rows."""

Clipped = Callable[[Sequence[Tensor], Tensor, float], tuple[Sums, float]]
"""Sums of clipped gradients, by parameter, and of losses, of a batch: features, targets, bound."""


class Private:
    """How a private recipe's gradients are computed: by book-keeping where that is right, else example by example.

    `chunk` examples are held at a time, at most `batch`; `extra` bytes are needed for that beside a usual step.
    """

    def __init__(self, recipe: Recipe, batch: int) -> None:
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
        self.extra = self.chunk * each

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
            sums = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
            losses = 0.0
            for begin in range(0, len(chosen), self.chunk):
                found, loss = clipped(*take(chosen[begin : begin + self.chunk]), dp.clip)
                losses += loss
                for name, part in found.items():
                    sums[name] += part
            noise = torch.split(torch.from_numpy(draws.normals(sum(sizes))), sizes)
            for sum_, part in zip(sums.values(), noise, strict=True):
                sum_.add_(part.to(sum_.device).view_as(sum_), alpha=dp.noise * dp.clip).div_(expected)
            yield losses / max(len(chosen), 1), list(sums.values())


def _by_products(recipe: Recipe, shapes: Sequence[tuple[int, ...] | None], place: int) -> bool:
    """Whether contributions to a layer's weight are products of two rows, which are never computed."""
    node = recipe.model.nodes[place]
    return node.op == "aten.linear.default" and len(shapes[node.args[0]["ref"]] or ()) == 2
