from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from grid.learning.plan import Plan
from grid.learning.recipe import Graph
from grid.learning.rehearsal import rehearse
from grid.wire.problems import CaptureFailed
from tests.learning.architectures import Case, Vae, cnn, mlp

R = torch.randn


def name(case: Any) -> str:
    return type(case).__name__ if isinstance(case, nn.Module) else ""


def captured(make: Callable[[], Case], **rest: Any) -> Plan:
    module, example = make()
    return Plan.capture(module, example, **rest)


def test_modes_and_statistics_are_kept_and_counters_dropped() -> None:
    module, example = cnn()
    before = copy.deepcopy(module.state_dict())
    plan = Plan.capture(module, example)

    kinds = {entry.name: entry.kind for entry in plan.recipe.model.inputs}
    assert kinds["1.running_mean"] == kinds["1.running_var"] == "buffer"
    assert "1.num_batches_tracked" not in kinds
    by_op = {node.op: node for node in plan.recipe.model.nodes}
    assert by_op["aten.dropout.default"].args[-1] == {"mode": [True, False]}
    assert by_op["aten.batch_norm.default"].args[5] == {"mode": [True, False]}
    assert "aten.relu.default" in by_op
    for name in plan.layout.by_name:  # the check of the plan has moved neither's
        assert module.state_dict()[name].equal(before[name])
        assert plan.values[name] == before[name].numpy().tobytes()


def test_a_loss_function_becomes_a_second_graph() -> None:
    def loss(outputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        rebuilt, mean, spread = outputs
        return functional.mse_loss(rebuilt, target) - (1 + spread - mean**2 - spread.exp()).mean() / 2

    plan = Plan.capture(Vae(), R(3, 6), loss=loss, target=R(3, 6))

    assert isinstance(plan.recipe.loss, Graph)
    assert rehearse(Plan.from_bundle(plan.bundle()).recipe, 8, 1 << 20, device="cpu").memory > 0


def test_a_loss_module_keeps_its_constants() -> None:
    weights = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1)
    plan = captured(mlp, loss=weights, target=torch.tensor([0, 1, 2]))
    assert "loss.loss.weight" in Plan.from_bundle(plan.bundle()).values
    assert "loss.loss.weight" not in plan.layout.by_name


class Linear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.kept: Tensor
        self.register_buffer("kept", torch.ones(4))


class CopiesARecord(Linear):
    def forward(self, x: Tensor) -> Any:
        self.kept.copy_(x[0])
        return self.linear(x)


class AssignsARecord(Linear):
    def forward(self, x: Tensor) -> Any:
        self.kept = x.mean(0)
        return self.linear(x)


class WritesThroughAView(Linear):
    def forward(self, x: Tensor) -> Any:
        self.kept[:2].add_(x[0, :2])
        return self.linear(x)


class Branches(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x) if x.sum() > 0 else -self.linear(x)


class FixesItsBatch(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x.view(2, 4))


class StopsGradients(Linear):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            y = self.linear(x)
        return y + self.linear(x)


class IsSomethingElseInEvaluation(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x) if self.training else self.linear(x).tanh()


class ReadsFreedMemory(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(torch.empty_like(x))


class IsExotic(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(torch.fft.fft(x).real)


class Sign(torch.autograd.Function):
    """Steps forward, and lets gradients through as if it did not."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(_: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Passes(Linear):
    def forward(self, x: Tensor) -> Any:
        return Sign.apply(self.linear(x))  # type: ignore[no-untyped-call]


class WritesToItsInput(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x.mul_(2))


class AssignsItems(Linear):
    def forward(self, x: Tensor) -> Any:
        y = self.linear(x)
        y[:, 0] = 0
        return y


class ItsShapeDependsOnValues(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x)[x > 0]


class ReadsAValue(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x)[: int(x.abs().sum().item())]


class LeavesForNumpy(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(torch.from_numpy(x.numpy() * 2))


class Draws(Linear):
    def forward(self, x: Tensor) -> Any:
        return self.linear(x) * random.random()


class GivesADictionary(Linear):
    def forward(self, x: Tensor) -> Any:
        return {"y": self.linear(x)}


@pytest.mark.parametrize(
    ("module", "word"),
    [
        (Passes(), "autograd function 'Sign'.*detach"),
        (WritesToItsInput(), "writes to the input x.*clone"),
        (AssignsItems(), "in place, as y.*torch.where"),
        (ItsShapeDependsOnValues(), "no shape may depend on values"),
        (ReadsAValue(), "depends on the values.*torch.where"),
        (LeavesForNumpy(), "leaves torch for numpy"),
        (Draws(), "random numbers that are not torch's"),
        (GivesADictionary(), "a tensor or a tuple of tensors"),
        (CopiesARecord(), "writes to kept"),
        (AssignsARecord(), "writes to kept"),
        (WritesThroughAView(), "a buffer after training differs"),
        (Branches(), "torch.where"),
        (FixesItsBatch(), r"x.shape\[0\]"),
        (StopsGradients(), "detach"),
        (IsSomethingElseInEvaluation(), "if self.training"),
        (ReadsFreedMemory(), "empty_like.default is not among"),
        (IsExotic(), "fft.*is not among"),
        (nn.Sequential(nn.Flatten()), "at least one parameter"),
    ],
    ids=name,
)
def test_what_has_no_place_in_a_plan_is_refused_with_its_name(module: nn.Module, word: str) -> None:
    with pytest.raises(CaptureFailed, match=word):
        Plan.capture(module, R(2, 4), loss="mse")


def test_embeddings_with_sparse_gradients_are_refused() -> None:
    with pytest.raises(CaptureFailed, match="sparse=True"):
        Plan.capture(nn.EmbeddingBag(5, 3, sparse=True), torch.randint(0, 5, (2, 3)), loss="mse")


def test_infinity_in_a_mask_becomes_the_largest_number() -> None:
    class Masked(Linear):
        def forward(self, x: Tensor) -> Any:
            scores = self.linear(x)
            return scores.masked_fill(torch.arange(4) > 2, float("-inf")).softmax(-1)

    plan = Plan.capture(Masked(), R(2, 4), loss="mse")
    (mask,) = (node for node in plan.recipe.model.nodes if node.op == "aten.masked_fill.Scalar")
    assert mask.args[2] == torch.finfo(torch.float32).min


def test_a_wrong_example_or_loss_is_refused() -> None:
    for example, rest, word in (
        ((R(2, 6), R(3, 6)), {}, "different batch sizes"),
        ((), {}, "batch first"),
        (R(2, 5), {}, "does not run on this example"),
        (R(2, 6), {"loss": "mine"}, "no loss is called"),
        (R(2, 6), {"loss": lambda a, b: (a - b).mean()}, "target="),
    ):
        with pytest.raises(CaptureFailed, match=word):
            Plan.capture(mlp()[0], example, **rest)
