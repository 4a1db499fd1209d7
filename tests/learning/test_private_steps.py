"""Private steps: book-keeping is exact, no example counts for more than the clip, and the noise is what is told."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import nn

from grid.learning import numpy_training
from grid.learning.arrays import views
from grid.learning.bookkeeping import BookKeeping
from grid.learning.per_example import PerExample
from grid.learning.plan import Plan
from grid.learning.private_steps import Private
from grid.learning.recipe import Dp, Limits
from grid.learning.state import State, tensor_views
from grid.learning.training import Trainer, constants_of
from grid.wire.problems import PlanRefused

SECRETS = (number.to_bytes(16, "big") for number in itertools.count(1))
RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((400, 5)).astype(np.float32)
DATA = {"features": FEATURES, "target": (FEATURES[:, :3] @ np.eye(3)).argmax(1)}
TINY = Limits(minimum_examples=1, minimum_batch=1)


class Convolutions(nn.Module):
    """Of two dimensions, grouped, strided, padded, with a group norm."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.GroupNorm(4, 8)
        self.b, self.c = nn.Conv2d(8, 16, 3, stride=2, groups=2, bias=False), nn.Linear(16 * 2 * 2, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.a(x.view(-1, 1, 12, 12))))
        return self.c(torch.relu(self.b(torch.max_pool2d(x, 2))).flatten(1))  # type: ignore[no-any-return]


class Sequences(nn.Module):
    """Attention, layer norms, a dilated convolution of one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(4, 16, 3, padding=2, dilation=2), nn.LayerNorm(16)
        self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))
        self.last = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(torch.tanh(self.conv(x)).transpose(1, 2))
        q, k, v = (f(x).reshape(x.shape[0], 7, 2, 8).transpose(1, 2) for f in (self.q, self.k, self.v))
        seen = nn.functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(seen.transpose(1, 2).reshape(x.shape[0], 7, 16))
        return self.last(x.mean(1))  # type: ignore[no-any-return]


class Twice(nn.Module):
    """One layer at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(5, 5), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(torch.relu(self.a(x)))))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.last = nn.LSTM(4, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.lstm(x)[0][:, -1])  # type: ignore[no-any-return]


class Mixing(nn.Module):
    """Made by somebody who wants one record to count for more than the clip: rows of the batch meet each other."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how, self.layer = how, nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        match self.how:
            case "mean":
                return self.layer(x - x.mean(0, keepdim=True))  # type: ignore[no-any-return]
            case "roll":
                return self.layer(x + x.roll(1, 0))  # type: ignore[no-any-return]
            case "flip":
                return self.layer(x) + self.layer.bias * x.flip(0)[:, :3]  # type: ignore[no-any-return]
            case "attend":
                return self.layer(torch.softmax(x @ x.t(), 1) @ x)  # type: ignore[no-any-return]
            case "count":
                return self.layer(x * x.shape[0])  # type: ignore[no-any-return]
        raise AssertionError(self.how)


def captured(module: nn.Module, *shape: int) -> Plan:
    torch.manual_seed(0)
    return Plan.capture(module, torch.randn(4, *shape))


LAYERED = {
    "mlp": (Plan.mlp([5, 16, 3]), (5,)),
    "cnn": (Plan.cnn((1, 12, 12), 3), (144,)),
    "convolutions": (captured(Convolutions(), 144), (144,)),
    "sequences": (captured(Sequences(), 4, 7), (4, 7)),
}
OTHERS = {"twice": (captured(Twice(), 5), (5,)), "recurrent": (captured(Recurrent(), 6, 4), (6, 4))}


def sample(shape: tuple[int, ...], count: int = 13) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [3 * torch.randn(count, *shape, generator=generator)], torch.arange(count) % 3


def parts_of(plan: Plan) -> tuple[State, State]:
    return tensor_views(plan.layout, bytearray(plan.initial)), constants_of(plan)


def plain_gradients(
    plan: Plan, features: Sequence[torch.Tensor], target: torch.Tensor
) -> list[dict[str, torch.Tensor]]:
    """Of each example alone, by torch itself."""
    from grid.learning.model import Model

    state, constants = parts_of(plan)
    weights = [tensor.requires_grad_() for tensor in state.values()]
    model, found = Model(plan.recipe, state, constants, training=True), []
    for place in range(len(target)):
        loss = model.loss(model([feature[place : place + 1] for feature in features]), target[place : place + 1])
        found.append(dict(zip(state, torch.autograd.grad(loss, weights), strict=True)))
    return found


def norm(gradients: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(part.double().square().sum().item() for part in gradients.values()))


@pytest.mark.parametrize("name", [*LAYERED, *OTHERS])
def test_sums_of_clipped_gradients_are_those_of_examples_taken_one_by_one(name: str) -> None:
    plan, shape = (LAYERED | OTHERS)[name]
    features, target = sample(shape)
    alone = plain_gradients(plan, features, target)
    bound = sorted(map(norm, alone))[len(alone) // 2]
    wanted = {key: sum(one[key] * min(1.0, bound / norm(one)) for one in alone) for key in plan.layout.by_name}

    weights, constants = parts_of(plan)
    ways = [PerExample(plan.recipe, weights, constants, "cpu")]
    private = Private(plan.recipe, 8)
    assert (private.layers is not None) == (name in LAYERED)
    if private.layers is not None:
        ways.append(BookKeeping(plan.recipe, private.layers, weights, constants, "cpu"))  # type: ignore[arg-type]
    for way in ways:
        found, _ = way(features, target, bound)
        assert found.keys() == wanted.keys()
        for key, part in found.items():
            torch.testing.assert_close(part, wanted[key], rtol=1e-5, atol=1e-6 * len(target) * bound)


@pytest.mark.parametrize("name", LAYERED)
def test_no_example_counts_for_more_than_the_clip(name: str) -> None:
    plan, shape = LAYERED[name]
    features, target = sample(shape)
    features[0] *= torch.logspace(-3, 6, len(target)).view(-1, *[1] * len(shape))
    private = Private(plan.recipe, 8)
    assert private.layers is not None
    keeping = BookKeeping(plan.recipe, private.layers, *parts_of(plan), "cpu")

    for bound in (1e-3, 1.0):
        for place in range(len(target)):
            with_it, _ = keeping(features, target, bound)
            rest = [index for index in range(len(target)) if index != place]
            without, _ = keeping([features[0][rest]], target[rest], bound)
            difference = {key: with_it[key].double() - without[key].double() for key in with_it}
            assert norm(difference) <= bound * (1 + 1e-4)
            alone, _ = keeping([features[0][[place]]], target[[place]], bound)
            assert norm(alone) <= bound


@pytest.mark.parametrize("way", ["book-keeping", "per example", "numpy"])
def test_an_example_whose_gradient_is_not_finite_counts_as_nothing(way: str) -> None:
    plan = Plan.linear(5, 3)
    features, target = sample((5,))
    features[0][4] = math.inf
    kept = [place for place in range(len(target)) if place != 4]
    weights, constants = parts_of(plan)
    if way == "numpy":
        slope = RNG.standard_normal((13, 3)).astype(np.float32)
        clip, rows = numpy_training._clipping(slope, features[0].numpy(), 2, 1.0)
        assert len(clip) == len(rows) == 12
        return
    private = Private(plan.recipe, 8)
    assert private.layers is not None
    keeping = BookKeeping(plan.recipe, private.layers, weights, constants, "cpu")
    clipped = keeping if way == "book-keeping" else PerExample(plan.recipe, weights, constants, "cpu")

    found, wanted = clipped(features, target, 0.5)[0], clipped([features[0][kept]], target[kept], 0.5)[0]
    assert all(torch.allclose(found[key], wanted[key], atol=1e-6) for key in wanted)


@pytest.mark.parametrize("how", ["mean", "roll", "flip", "attend", "count"])
def test_a_plan_that_mixes_examples_is_never_kept_books_of(how: str) -> None:
    torch.manual_seed(0)
    plan = Plan.capture(Mixing(how), torch.randn(4, 5))

    assert Private(plan.recipe, 8).layers is None

    weights, constants = parts_of(plan)
    clipped = PerExample(plan.recipe, weights, constants, "cpu")
    features, target = sample((5,))
    bound, rest = 0.3, slice(1, None)
    whole = clipped(features, target, bound)[0]
    without = clipped([features[0][rest]], target[rest], bound)[0]
    assert norm({key: whole[key] - without[key] for key in whole}) <= bound * (1 + 1e-4)


def stepped(plan: Plan, rows: np.ndarray, dp: Dp, secret: bytes) -> dict[str, torch.Tensor]:
    """One step's noised gradients, on rows that all have a gradient of nothing."""
    private = Private(plan.recipe, 64)
    weights, _ = parts_of(plan)

    def nothing(*_: object) -> tuple[dict[str, torch.Tensor], float]:
        return {}, 0.0

    steps = private.steps(dp, rows, weights, lambda _: ([], torch.zeros(0)), nothing, secret)
    return dict(zip(weights, next(steps)[1], strict=True))


def test_noise_has_the_scale_that_is_told_in_every_parameter_and_differs_with_the_secret() -> None:
    plan, dp, rows = Plan.mlp([50, 200, 100]), Dp(clip=0.7, noise=1.3, rate=0.1), np.arange(500)
    first, second = (stepped(plan, rows, dp, next(SECRETS)) for _ in range(2))

    scale = 0.7 * 1.3 / (0.1 * 500)
    for name, values in first.items():
        count = values.numel()
        assert abs(values.double().mean().item()) < 5 * scale / math.sqrt(count), name
        assert abs(values.double().var().item() / scale**2 - 1) < 5 * math.sqrt(2 / count), name
        assert not torch.equal(values, second[name])


def test_a_step_that_takes_no_record_is_noise_and_nothing_else() -> None:
    plan = Plan.mlp([5, 4, 3], dp=Dp(1.0, 1.0, rate=1e-6), steps=3, minimum_examples=1, optimizer="sgd", lr=0.1)
    trainer = Trainer(plan, DATA, limits=Limits(minimum_examples=1, minimum_batch=0))
    state = tensor_views(plan.layout, buffer := bytearray(plan.initial))

    fitted = trainer.fit(state, secret=next(SECRETS))

    assert (fitted.steps, fitted.loss) == (3, 0.0)
    assert bytes(buffer) != plan.initial


def test_private_training_learns_and_both_kits_take_the_same_steps() -> None:
    plan = Plan.linear(5, 3, metrics=("accuracy",), dp=Dp(1.0, 0.8, 0.2), epochs=8, optimizer="sgd", lr=0.5, batch=16)
    buffers = []
    for make, see in ((Trainer, tensor_views), (numpy_training.Trainer, views)):
        state = see(plan.layout, buffer := bytearray(plan.initial))  # type: ignore[operator]
        trainer = make(plan, DATA)  # type: ignore[operator]
        fitted = trainer.fit(state, secret=b"0123456789abcdef")
        buffers.append(np.frombuffer(buffer, np.float32))
        assert fitted.steps == 40
        assert trainer.evaluate(state).metrics["accuracy"] > 0.7

    assert np.allclose(*buffers, atol=1e-4)


def test_what_cannot_be_private_is_refused() -> None:
    dp = Dp(1.0, 1.0)
    torch.manual_seed(0)
    with pytest.raises(PlanRefused, match="group or layer normalisation"):
        Plan.capture(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.Linear(4, 3)), torch.randn(4, 5), dp=dp)
    for wrong in (Dp(0.0, 1.0), Dp(1.0, math.nan), Dp(1.0, 1.0, 1.5), Dp(1.0, 1.0, 0.1, 1.0)):
        with pytest.raises(PlanRefused, match="of dp is"):
            Plan.linear(5, 3, dp=wrong)
    with pytest.raises(PlanRefused, match="800 are asked for"):
        Trainer(Plan.linear(5, 3, dp=Dp(1.0, 1.0, 0.01)), DATA)
    plan = Plan.linear(5, 3, dp=dp)
    for make, see in ((Trainer, tensor_views), (numpy_training.Trainer, views)):
        with pytest.raises(ValueError, match="16 secret bytes"):
            make(plan, DATA).fit(see(plan.layout, bytearray(plan.initial)))  # type: ignore[operator]


def test_a_plan_says_what_it_costs() -> None:
    dp = Dp(clip=1.0, noise=2.0, rate=0.1)
    recipe = Plan.linear(5, 3, dp=dp, epochs=5).recipe

    assert recipe.private_steps == 50
    assert dp.epsilon(10 * recipe.private_steps) == pytest.approx(6.0895, abs=1e-3)
