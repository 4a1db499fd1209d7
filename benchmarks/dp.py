"""What hiding each record costs: steps beside plain ones of the same plan, and accuracy on the demo's digits.

Steps in turns, the fastest of each, one thread; both take the same share of the records at a time. The digits are those
of `grid-node demo`, dealt to three nodes, which train by FedAvg in this process; accuracy is that on nobody's digits.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import nn

from benchmarks.row import Row
from grid.cli import digits
from grid.learning.model import Model
from grid.learning.plan import Plan
from grid.learning.private import Privacy, made_private
from grid.learning.private_steps import Private
from grid.learning.recipe import Dp
from grid.learning.state import tensor_views
from grid.learning.training import Arrays, Trainer

ROWS, STEPS, REPEATS = 2000, 20, 7
ROUNDS, NODES = 25, 3
WISH = Privacy(3.0, delta=1e-5, clip=1.0, rate=0.25)


class Convolutions(nn.Module):
    """A small network on images of 28 x 28, with group norms."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 49, 10),
        )  # fmt: skip

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x.view(-1, 1, 28, 28))  # type: ignore[no-any-return]


def fastest(works: Sequence[Callable[[], object]]) -> list[float]:
    """Seconds of each, in turns."""
    took = [float("inf")] * len(works)
    for _ in range(REPEATS):
        for place, work in enumerate(works):
            before = time.perf_counter()
            work()
            took[place] = min(took[place], time.perf_counter() - before)
    return took


def step_ratio(plan: Plan, batch: int) -> float:
    """A private step, of a plain one on as many records as it takes on average."""
    rng = np.random.default_rng(0)
    data: Arrays = {"features": rng.standard_normal((ROWS, 784), np.float32), "target": rng.integers(0, 10, ROWS)}
    plain = plan.with_(batch=batch, steps=STEPS, optimizer="sgd")
    dp = Dp(clip=1.0, noise=1.0, rate=batch / ROWS)
    works = []
    for each in (plain, plain.with_(dp=dp)):
        trainer = Trainer(each, data, held_out=0.0)
        state = tensor_views(each.layout, bytearray(each.initial))
        works.append(lambda t=trainer, s=state: t.fit(s, secret=os.urandom(16)))
    one, other = fastest(works)
    return other / one


def gradient_ratio(plan: Plan, batch: int) -> float:
    """Clipped gradients of one batch, of plain ones of the same: a step without its noise and without the optimizer."""
    generator = torch.Generator().manual_seed(0)
    features, target = torch.randn(batch, 784, generator=generator), torch.arange(batch) % 10
    weights = tensor_views(plan.layout, bytearray(plan.initial))
    clipped = Private(plan.recipe, batch).clipped(weights, {}, "cpu")
    leaves = [weight.requires_grad_() for weight in weights.values()]
    model = Model(plan.recipe, weights, {}, training=True)
    one, other = fastest(
        [
            lambda: [torch.autograd.grad(model.loss(model([features]), target), leaves) for _ in range(STEPS)],
            lambda: [clipped([features], target, 1.0) for _ in range(STEPS)],
        ]
    )
    return other / one


def accuracy(plan: Plan, dealt: digits.Dealt) -> float:
    """That of a model which the nodes trained together, on the test set."""
    trainers = [Trainer(plan, arrays(share), held_out=0.0) for share in dealt.shares]
    model = np.frombuffer(bytearray(plan.initial), np.float32)
    for number in range(ROUNDS):
        made = []
        for node, trainer in enumerate(trainers):
            trained = bytearray(model.tobytes())
            trainer.fit(tensor_views(plan.layout, trained), round_number=number * NODES + node, secret=os.urandom(16))
            made.append(np.frombuffer(trained, np.float32))
        model = np.average(made, axis=0, weights=[len(share) for share in dealt.shares]).astype(np.float32)
    judge = Trainer(plan.with_(dp=None), arrays(dealt.test), held_out=0.0)
    return judge.evaluate(tensor_views(plan.layout, bytearray(model.tobytes())), "train").metrics["accuracy"]


def arrays(share: digits.Share) -> Arrays:
    return {
        "features": np.array([scan.pixels for scan in share], np.float32),
        "target": np.array([scan.digit for scan in share], np.int64),
    }


def rows() -> Iterator[Row]:
    """The rows of this benchmark."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for name, plan, batch in [
        ("mlp", Plan.mlp([784, 128, 10]), 256),
        ("wide", Plan.mlp([784, 512, 256, 10]), 256),
        ("cnn", Plan.capture(Convolutions(), torch.randn(4, 784)), 64),
    ]:
        what = f"{plan.parameters:,} parameters, {batch} records: clipped gradients, of plain ones"
        yield Row(f"dp.clip.{name}", what, gradient_ratio(plan, batch), "x", most=1.5)
        yield Row(
            f"dp.step.{name}", "the same: a private step with its noise, of a plain one", step_ratio(plan, batch), "x"
        )
    dealt = digits.deal(digits.load(), NODES)
    plan = Plan.mlp([64, 32, 10], metrics=("accuracy",), optimizer="sgd", lr=0.2)
    private = made_private(plan.with_(lr=2.0), WISH, ROUNDS)
    assert private.recipe.dp is not None
    spent = private.recipe.dp.epsilon(ROUNDS * private.recipe.private_steps)
    yield Row("dp.epsilon", f"epsilon of {ROUNDS} rounds at delta {WISH.delta:g}", spent, "", most=WISH.epsilon)
    yield Row("dp.plain.accuracy", "digits of three nodes, plain", accuracy(plan, dealt), "")
    yield Row("dp.accuracy", "the same, private at that epsilon", accuracy(private, dealt), "", least=0.75)
