"""A plan's graph and loss made ready to run: inputs and state in, outputs and loss out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from grid.learning.interpreter import Program, Tap, untapped
from grid.learning.objectives import LOSSES
from grid.learning.recipe import Graph, Recipe
from grid.learning.state import State
from grid.wire.problems import PlanRefused

LossFunction = Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor]


class Model:
    """One mode of a plan's model, over tensors that stay where they are.

    `state` has parameters and buffers, `constants` the rest of the bundle's tensors, by name.
    """

    def __init__(
        self,
        recipe: Recipe,
        state: State,
        constants: State,
        *,
        training: bool,
        device: str = "cpu",
        tap: Tap = untapped,
    ) -> None:
        graph = recipe.model
        self.program = Program(graph, training=training, device=device, tap=tap)
        tensors = {**constants, **state}
        self._inputs = [None if entry.kind == "input" else tensors[entry.name] for entry in graph.inputs]
        self._places = [place for place, entry in enumerate(graph.inputs) if entry.kind == "input"]
        self.loss = loss_function(recipe, constants, training=training, device=device)

    def feed(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor | None]:
        """The graph's inputs, complete."""
        for place, feature in zip(self._places, features, strict=True):
            self._inputs[place] = feature
        return self._inputs

    def __call__(self, features: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """The model's outputs for a batch."""
        return self.program(self.feed(features))


def loss_function(
    recipe: Recipe, constants: Mapping[str, torch.Tensor], *, training: bool, device: str = "cpu"
) -> LossFunction:
    """The plan's loss of (outputs, target): a scalar tensor."""
    if not isinstance(recipe.loss, Graph):
        named = LOSSES[recipe.loss]
        return lambda outputs, target: named(outputs[0], target)
    graph = recipe.loss
    program = Program(graph, training=training, device=device)
    fixed = {entry.name: constants["loss." + entry.name] for entry in graph.named("const")}

    def loss(outputs: Sequence[torch.Tensor], target: torch.Tensor) -> torch.Tensor:
        given = iter([*outputs, target])
        inputs = [next(given) if entry.kind == "input" else fixed[entry.name] for entry in graph.inputs]
        found = program(inputs)[0]
        if found.numel() != 1:
            raise PlanRefused(f"the loss has shape {list(found.shape)}; it must be one number")
        return found.reshape(())  # type: ignore[no-any-return]

    return loss
