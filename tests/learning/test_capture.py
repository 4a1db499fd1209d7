from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from grid.learning.plan import Plan
from grid.learning.recipe import Graph
from grid.learning.rehearsal import rehearse
from grid.wire.problems import CaptureFailed

R = torch.randn


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Dropout(0.3),
        nn.Flatten(),
        nn.Linear(36, 10),
    )


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 16)
        self.place = nn.Parameter(R(1, 8, 16))
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.out = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.layer(self.embed(x) + self.place).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind: Any, **rest: Any) -> None:
        super().__init__()
        self.rnn = kind(6, 8, 2, dropout=0.2, batch_first=True, **rest)
        self.out = nn.LazyLinear(4)
        self.out(self.rnn(R(2, 5, 6))[0])

    def forward(self, x: Tensor) -> Any:
        return self.out(self.rnn(x)[0][:, -1])


class Gpt(nn.Module):
    """A causal language model whose head is tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Embedding(6, 16)
        self.mix = nn.Linear(16, 48)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Any:
        batch, length = words.shape
        x = self.words(words) + self.places(torch.arange(length))
        q, k, v = (part.view(batch, length, 2, 8).transpose(1, 2) for part in self.mix(x).split(16, -1))
        drop = 0.1 if self.training else 0.0
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=drop)
        return self.head(x + seen.transpose(1, 2).reshape(batch, length, 16))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.out = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Any:
        y = self.norm(self.conv(x))
        y += x
        return self.out(functional.adaptive_avg_pool2d(functional.relu(y), 1).flatten(1))


class Vae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(6, 8), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Any:
        mean, spread = self.encode(x).chunk(2, -1)
        return self.decode(mean + torch.randn_like(mean) * (spread / 2).exp()), mean, spread


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bag, self.out = nn.EmbeddingBag(9, 4, mode="sum"), nn.Linear(4, 1)

    def forward(self, words: Tensor) -> Any:
        return self.out(self.bag(words))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Linear(8, 3))


USUAL = [(mlp(), R(1, 6)), (cnn(), R(3, 1, 8, 8)), (Transformer(), R(3, 8, 6)), (Recurrent(nn.LSTM), R(3, 5, 6))]
MORE = [
    (Recurrent(nn.GRU, bidirectional=True), R(3, 5, 6)),
    (Gpt(), torch.randint(0, 20, (3, 6))),
    (Residual(), R(3, 3, 4, 4)),
    (Vae(), R(3, 6)),
    (Bag(), torch.randint(0, 9, (3, 4))),
    (nn.Sequential(nn.Conv3d(1, 2, 3), nn.GroupNorm(1, 2), nn.Flatten(), nn.Linear(16, 2)), R(2, 1, 4, 4, 4)),
    (nn.Sequential(nn.ConvTranspose2d(1, 4, 2, 2), nn.PixelShuffle(2), nn.Upsample(scale_factor=2)), R(2, 1, 3, 3)),
]


def name(case: Any) -> str:
    return type(case).__name__ if isinstance(case, nn.Module) else ""


@pytest.mark.parametrize(
    ("module", "example"), [*USUAL, *(pytest.param(*case, marks=pytest.mark.slow) for case in MORE)], ids=name
)
def test_a_module_becomes_a_plan_that_computes_the_same_bits_in_both_modes(module: nn.Module, example: Tensor) -> None:
    before = {key: tensor.clone() for key, tensor in module.state_dict().items()}

    plan = Plan.from_bundle(Plan.capture(module, example, loss="mse").bundle())  # it compares before it answers

    assert rehearse(plan.recipe, 16, 1 << 30, device="cpu").outputs[0][0] == 16
    assert all(tensor.equal(before[key]) for key, tensor in module.state_dict().items())
    assert set(plan.layout.by_name) <= set(before)


def test_modes_and_statistics_are_kept_and_counters_dropped() -> None:
    plan = Plan.capture(cnn(), R(2, 1, 8, 8))

    kinds = {entry.name: entry.kind for entry in plan.recipe.model.inputs}
    assert kinds["1.running_mean"] == kinds["1.running_var"] == "buffer"
    assert "1.num_batches_tracked" not in kinds
    by_op = {node.op: node for node in plan.recipe.model.nodes}
    assert by_op["aten.dropout.default"].args[-1] == {"mode": [True, False]}
    assert by_op["aten.batch_norm.default"].args[5] == {"mode": [True, False]}
    assert "aten.relu.default" in by_op


def test_a_loss_function_becomes_a_second_graph() -> None:
    def loss(outputs: tuple[Tensor, ...], target: Tensor) -> Tensor:
        rebuilt, mean, spread = outputs
        return functional.mse_loss(rebuilt, target) - (1 + spread - mean**2 - spread.exp()).mean() / 2

    plan = Plan.capture(Vae(), R(3, 6), loss=loss, target=R(3, 6))

    assert isinstance(plan.recipe.loss, Graph)
    assert rehearse(Plan.from_bundle(plan.bundle()).recipe, 8, 1 << 20, device="cpu").memory > 0


def test_a_loss_module_keeps_its_constants() -> None:
    weights = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]), label_smoothing=0.1)
    plan = Plan.capture(mlp(), R(3, 6), loss=weights, target=torch.tensor([0, 1, 2]))
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


@pytest.mark.parametrize(
    ("module", "word"),
    [
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


def test_a_wrong_example_or_loss_is_refused() -> None:
    for example, rest, word in (
        ((R(2, 6), R(3, 6)), {}, "different batch sizes"),
        ((), {}, "batch first"),
        (R(2, 6), {"loss": "mine"}, "no loss is called"),
        (R(2, 6), {"loss": lambda a, b: (a - b).mean()}, "target="),
    ):
        with pytest.raises(CaptureFailed, match=word):
            Plan.capture(mlp(), example, **rest)
