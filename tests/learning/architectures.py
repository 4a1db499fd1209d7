"""Sixteen kinds of model that people train, small: each with one batch of inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Case = tuple[nn.Module, tuple[Tensor, ...]]
R = torch.randn


def mlp() -> Case:
    return nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.LayerNorm(8), nn.Dropout(0.2), nn.Linear(8, 3)), (R(3, 6),)


def cnn() -> Case:
    layers = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(36, 10)), (R(3, 1, 8, 8),)


class Block(nn.Module):
    """He et al. 2015, figure 2, as torchvision writes it: in place where it can be."""

    def __init__(self, wide: int, out: int, stride: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(wide, out, 3, stride, 1, bias=False), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norm_one, self.norm_two = nn.BatchNorm2d(out), nn.BatchNorm2d(out)
        self.relu = nn.ReLU(inplace=True)
        self.short = nn.Sequential(nn.Conv2d(wide, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Any:
        y = self.norm_two(self.two(self.relu(self.norm_one(self.one(x)))))
        y += self.short(x)
        return self.relu(y)


def resnet() -> Case:
    blocks = nn.Sequential(Block(3, 4, 1), Block(4, 8, 2))
    return nn.Sequential(blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)), (R(3, 3, 8, 8),)


class UNet(nn.Module):
    """Two levels with a skip: Ronneberger et al. 2015, figure 1."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.low = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.out = nn.ConvTranspose2d(8, 4, 2, 2), nn.Conv2d(8, 2, 1)

    def forward(self, x: Tensor) -> Any:
        high = functional.relu(self.down(x))
        low = functional.relu(self.low(functional.max_pool2d(high, 2)))
        return self.out(torch.cat([high, self.up(low)], 1))


def u_net() -> Case:
    return UNet(), (R(2, 1, 8, 8),)


class Vae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(6, 8), nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Any:
        mean, spread = self.encode(x).chunk(2, -1)
        return self.decode(mean + torch.randn_like(mean) * (spread / 2).exp()), mean, spread


def vae() -> Case:
    return Vae(), (R(3, 6),)


class Gpt(nn.Module):
    """A causal language model whose head is tied to its embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(20, 16), nn.Embedding(6, 16)
        self.norm, self.mix = nn.LayerNorm(16), nn.Linear(16, 48)
        self.head = nn.Linear(16, 20, bias=False)
        self.head.weight = self.words.weight

    def forward(self, words: Tensor) -> Any:
        batch, length = words.shape
        x = self.words(words) + self.places(torch.arange(length))
        q, k, v = (part.view(batch, length, 2, 8).transpose(1, 2) for part in self.mix(self.norm(x)).split(16, -1))
        drop = 0.1 if self.training else 0.0
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=drop)
        return self.head(x + seen.transpose(1, 2).reshape(batch, length, 16))


def gpt() -> Case:
    return Gpt(), (torch.randint(0, 20, (3, 6)),)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.embed, self.place = nn.Linear(6, 16), nn.Parameter(R(1, 8, 16))
        self.layers, self.out = nn.TransformerEncoder(layer, 2), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.layers(self.embed(x) + self.place).mean(1))


def transformer() -> Case:
    return Encoder(), (R(3, 8, 6),)


class Recurrent(nn.Module):
    def __init__(self, kind: Any, wide: int, **rest: Any) -> None:
        super().__init__()
        self.rnn = kind(6, 8, 2, dropout=0.2, batch_first=True, **rest)
        self.out = nn.Linear(wide, 4)

    def forward(self, x: Tensor) -> Any:
        return self.out(self.rnn(x)[0][:, -1])


def lstm() -> Case:
    return Recurrent(nn.LSTM, 8), (R(3, 5, 6),)


def bi_gru() -> Case:
    return Recurrent(nn.GRU, 16, bidirectional=True), (R(3, 5, 6),)


class Tcn(nn.Module):
    """Causal convolutions, dilated: Bai et al. 2018, section 3."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(4 if depth else 2, 4, 2, dilation=1 << depth) for depth in range(3))
        self.out = nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Any:
        for depth, layer in enumerate(self.layers):
            x = functional.dropout(functional.relu(layer(functional.pad(x, (1 << depth, 0)))), 0.1, self.training)
        return self.out(x[:, :, -1])


def tcn() -> Case:
    return Tcn(), (R(3, 2, 9),)


class Dlrm(nn.Module):
    """Dense and categorical features, and all their products: Naumov et al. 2019, section 2."""

    def __init__(self) -> None:
        super().__init__()
        self.dense, self.bag, self.one = nn.Linear(5, 4), nn.EmbeddingBag(9, 4, mode="sum"), nn.Embedding(7, 4)
        self.top = nn.Sequential(nn.Linear(13, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, numbers: Tensor, words: Tensor, place: Tensor) -> Any:
        dense = functional.relu(self.dense(numbers))
        parts = torch.stack([dense, self.bag(words), self.one(place)], 1)
        products = torch.bmm(parts, parts.transpose(1, 2)).flatten(1)
        return self.top(torch.cat([dense, products], 1))


def dlrm() -> Case:
    return Dlrm(), (R(3, 5), torch.randint(0, 9, (3, 4)), torch.randint(0, 7, (3,)))


def activations() -> Case:
    kinds = [nn.ReLU(), nn.GELU(), nn.SiLU(), nn.ELU(), nn.LeakyReLU(), nn.Softplus(), nn.Hardswish(), nn.Mish()]
    kinds += [nn.Tanh(), nn.Sigmoid(), nn.PReLU()]
    layers = [layer for kind in kinds for layer in (nn.Linear(6, 6), kind)]
    return nn.Sequential(*layers), (R(3, 6),)


def volumes() -> Case:
    layers = [nn.Conv3d(1, 2, 3), nn.GroupNorm(1, 2), nn.ReLU(), nn.AvgPool3d(2), nn.Flatten(), nn.Linear(2, 2)]
    return nn.Sequential(*layers), (R(2, 1, 4, 4, 4),)


class Gcn(nn.Module):
    """Kipf and Welling 2017, equation 2, on a batch of small graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 8, bias=False), nn.Linear(8, 3, bias=False)

    def forward(self, edges: Tensor, x: Tensor) -> Any:
        edges = edges.abs() + torch.eye(edges.shape[1])
        weights = edges.sum(2, keepdim=True).rsqrt()
        edges = edges * weights * weights.transpose(1, 2)
        return torch.bmm(edges, self.two(functional.relu(torch.bmm(edges, self.one(x))))).mean(1)


def gcn() -> Case:
    return Gcn(), (R(3, 5, 5), R(3, 5, 4))


def upsampling() -> Case:
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.PixelShuffle(2), nn.Upsample(scale_factor=2), nn.Conv2d(2, 1, 3)]
    layers += [nn.Upsample(scale_factor=2, mode="bilinear"), nn.Conv2d(1, 1, 3)]
    return nn.Sequential(*layers), (R(2, 1, 3, 3),)


def logistic_regression() -> Case:
    return nn.Sequential(nn.Linear(6, 1), nn.Sigmoid()), (R(3, 6),)


ALL: tuple[Callable[[], Case], ...] = (
    mlp, cnn, resnet, u_net, vae, gpt, transformer, lstm, bi_gru, tcn, dlrm, activations, volumes, gcn, upsampling,
    logistic_regression,
)  # fmt: skip
