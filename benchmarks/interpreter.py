"""How much longer a training step takes through a plan than in the eager module it was captured from.

Forward, backward and a step of plain SGD, both sides with the same optimizer; medians of interleaved blocks, CPU time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from benchmarks.row import Row
from grid.learning.interpreter import TORCH_TYPES
from grid.learning.model import Model
from grid.learning.optimizers import stepper
from grid.learning.plan import Plan
from grid.learning.state import tensor_views

BOUND = 1.10


class Transformer(nn.Module):
    """Two encoder layers over 16 tokens of 64 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.randn(1, 16, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 256, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 16, 64) to (B, 10)."""
        result: torch.Tensor = self.out(self.layers(x + self.place).mean(1))
        return result


def models() -> dict[str, tuple[nn.Module, torch.Tensor]]:
    """Name to module and one batch."""
    mlp = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    cnn = nn.Sequential(
        *(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Dropout(0.25), nn.Flatten(), nn.Linear(32 * 49, 10)),
    )
    return {
        "mlp, batch 32": (mlp, torch.randn(32, 784)),
        "cnn, batch 32": (cnn, torch.randn(32, 1, 28, 28)),
        "transformer, batch 8": (Transformer(), torch.randn(8, 16, 64)),
    }


def eager_step(module: nn.Module, batch: torch.Tensor, target: torch.Tensor) -> Callable[[], None]:
    """One training step of the module."""
    module.train()
    weights: list[torch.Tensor] = list(module.parameters())
    descend = stepper(Plan.linear(1, 1).recipe.optimizer, weights)

    def step() -> None:
        gradients = torch.autograd.grad(functional.cross_entropy(module(batch), target), weights)
        with torch.no_grad():
            descend(list(gradients), 0.001)

    return step


def plan_step(module: nn.Module, batch: torch.Tensor, target: torch.Tensor) -> Callable[[], None]:
    """The same step through the plan."""
    plan = Plan.capture(module, batch)
    state = tensor_views(plan.layout, bytearray(plan.initial))
    held = {entry.name: entry for entry in plan.recipe.model.named("const")}
    constants = {
        name: torch.frombuffer(bytearray(plan.values[name]), dtype=TORCH_TYPES[entry.dtype])
        for name, entry in held.items()
    }
    weights = [state[entry.name].requires_grad_() for entry in plan.recipe.model.named("param")]
    model = Model(plan.recipe, state, constants, training=True)
    descend = stepper(plan.recipe.optimizer, weights)

    def step() -> None:
        gradients = torch.autograd.grad(model.loss(model([batch]), target), weights)
        with torch.no_grad():
            descend(list(gradients), 0.001)

    return step


def ratio(one: Callable[[], None], other: Callable[[], None], blocks: int = 40, seconds: float = 0.02) -> float:
    """Median over interleaved blocks of the CPU time of `one` over that of `other`."""
    count = max(1, int(seconds / cpu(other, 5) * 5))
    return statistics.median(cpu(one, count) / cpu(other, count) for _ in range(blocks))


def cpu(step: Callable[[], None], count: int) -> float:
    """CPU seconds of `count` steps."""
    start = time.process_time()
    for _ in range(count):
        step()
    return time.process_time() - start


def rows() -> Iterator[Row]:
    """The rows for `python -m benchmarks`."""
    torch.set_num_threads(1)
    for name, (module, batch) in models().items():
        target = torch.randint(0, 10, (len(batch),))
        through, eager = plan_step(module, batch, target), eager_step(module, batch, target)
        cpu(through, 20), cpu(eager, 20)
        short = name.partition(",")[0]
        what = f"a training step through a plan, of the eager module's: {name}"
        yield Row(f"interpreter.{short}", what, ratio(through, eager), "x", most=BOUND)
