"""Clipped gradients by book-keeping: one pass back through a batch, and hardly a gradient of a single example.

Of every layer the input and the gradient of its output are kept; both together say what each example contributes. Where
an input is one row per example, a contribution is the product of two rows, and so is its norm. Elsewhere contributions
are computed, for norms from products of whole inputs would be differences of large numbers, and a plan could be made
so that they come out too small.

Source: Bu, Wang, Zha, Karypis 2022, "Differentially private optimization on large model at small cost",
arXiv:2210.00038, sections 2.2 and 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from grid.learning.interpreter import Operation
from grid.learning.model import Model
from grid.learning.recipe import Recipe
from grid.learning.separable import Layer
from grid.learning.state import State

Tensor = torch.Tensor
Sums = dict[str, Tensor]
Pair = tuple[int, int]

STRETCH, SMALL, ROUNDING = 128, 1e-22, 2.0**-24
"""So many numbers; one whose square float32 still knows of; how far off, of itself, a float32 may be."""


class Part(NamedTuple):
    """What a batch contributes to one parameter: squared norms, float64 (b,), and the sum under factors."""

    name: str
    squares: Tensor
    scaled: Callable[[Factors], Tensor]


class BookKeeping:
    """Sums of clipped gradients of a plan whose `layers` keep examples apart (`separable`).

    `weights` are the parameters, by name; they are read anew with each batch.
    """

    def __init__(self, recipe: Recipe, layers: Sequence[Layer], weights: State, constants: State, device: str) -> None:
        self._layers = {layer.place: layer for layer in layers}
        self._noted: list[tuple[Layer, tuple[Any, ...], Tensor]] = []
        fixed = {name: weight.detach() for name, weight in weights.items()}
        self._model = Model(recipe, fixed, constants, training=True, device=device, tap=self._tap)

    def __call__(self, features: Sequence[Tensor], target: Tensor, bound: float) -> tuple[Sums, float]:
        """The sum of the examples' gradients, each clipped to an L2 norm of `bound`, and the sum of their losses."""
        self._noted.clear()
        total = self._model.loss(self._model(features), target) * len(target)
        outputs = [output for _, _, output in self._noted]
        found: Sequence[Tensor | None] = torch.autograd.grad(total, outputs, allow_unused=True)
        with torch.no_grad():
            layers = zip(self._noted, found, strict=True)
            contributions = [
                KINDS[layer.op](layer, given, slope) for (layer, given, _), slope in layers if slope is not None
            ]
            self._noted.clear()
            parts = [part for several in contributions for part in several]
            factors = factors_of(torch.stack([part.squares for part in parts]).sum(0), bound)
            return {part.name: part.scaled(factors) for part in parts}, total.item()

    def _tap(self, place: int, operation: Operation) -> Operation:
        layer = self._layers.get(place)
        if layer is None:
            return operation

        def noting(*given: Any) -> Tensor:
            output: Tensor = operation(*given)
            if not output.requires_grad:
                output.requires_grad_()
            self._noted.append((layer, given, output))
            return output

        return noting


class Factors(NamedTuple):
    """What each example's gradient is multiplied by, float32 (b,); `kept`: of which examples, None for all."""

    values: Tensor
    kept: Tensor | None = None

    def of(self, rows: Tensor) -> Tensor:
        """Those rows that the factors are for."""
        return rows if self.kept is None else rows[self.kept]


def factors_of(squares: Tensor, bound: float) -> Factors:
    """The factors that clip gradients to `bound`, from their squared norms, float64 (b,).

    A gradient that is not finite is left out: what it would do to the sum has no bound. The bound is kept a little,
    for the rounding of float32.
    """
    values = (bound * (1 - 1e-6) / squares.sqrt()).clamp(max=1.0).float()
    finite = squares.isfinite()
    return Factors(values) if finite.all() else Factors(values[finite], finite)


def weighted(rows: Tensor, factors: Factors) -> Tensor:
    """The sum of `rows` (b, ...) times factors."""
    return (factors.values @ factors.of(rows).flatten(1)).view(rows.shape[1:])


def squares_of(rows: Tensor) -> Tensor:
    """The squared norm of each of `rows` (b, ...), float64 (b,), rounded up.

    Stretches of `STRETCH` numbers are summed in float32, eight side by side, which is several times as fast as float64:
    to that come what rounding takes at most, and numbers too small for their squares.
    """
    flat = rows.reshape(len(rows), -1).contiguous()
    cut = flat.shape[1] - flat.shape[1] % STRETCH
    norms: Tensor = torch.linalg.vector_norm(flat[:, cut:], dim=1, keepdim=True)
    if cut:
        whole = flat[:, :cut].view(len(flat), -1, STRETCH)
        norms = torch.cat([norms, torch.linalg.vector_norm(whole, dim=2)], 1)
    return norms.double().add_(SMALL * math.sqrt(STRETCH)).mul_(1 + ROUNDING * (8 + STRETCH / 8)).square_().sum(1)


def _explicit(name: str | None, rows: Tensor) -> list[Part]:
    """A part whose contributions are computed: `rows` (b, *the parameter's shape)."""
    return [] if name is None else [Part(name, squares_of(rows), lambda factors: weighted(rows, factors))]


def _linear(layer: Layer, given: tuple[Any, ...], slope: Tensor) -> list[Part]:
    came = given[0]
    if slope.dim() > 2:
        came, slope = came.flatten(1, -2), slope.flatten(1, -2)
        parts = _explicit(layer.weight, slope.transpose(1, 2) @ came)
        return parts + _explicit(layer.bias, slope.sum(1))
    steep = squares_of(slope)
    parts = [Part(layer.bias, steep, lambda factors: weighted(slope, factors))] if layer.bias else []
    if layer.weight:
        parts.append(Part(layer.weight, squares_of(came) * steep, lambda factors: _outer(slope, came, factors)))
    return parts


def _outer(slope: Tensor, came: Tensor, factors: Factors) -> Tensor:
    """The sum of factor times slope (b, p) times what came (b, d): (p, d)."""
    return (factors.of(slope) * factors.values.unsqueeze(1)).T @ factors.of(came)


def _conv(layer: Layer, given: tuple[Any, ...], slope: Tensor) -> list[Part]:
    came, weight, _, *how = given
    defaults: tuple[Any, ...] = ([1], [0], [1], 1)
    stride, padding, dilation, groups = *how, *defaults[len(how) :]
    flat = slope.flatten(2)  # (b, p, places)
    parts = _explicit(layer.bias, flat.sum(2))
    if layer.weight:
        if weight.dim() == 3:  # of one dimension: of two, the first of which is 1
            came, stride, padding, dilation = came.unsqueeze(2), [1, *stride], [0, *padding], [1, *dilation]
        kernel = (1, *weight.shape[2:])[-2:]
        places = (1, *slope.shape[2:])[-2:]
        windows = _windows(came, kernel, places, _two(stride), _two(padding), _two(dilation))
        apart = (slope.shape[0], groups, -1, flat.shape[2])
        rows = flat.view(apart) @ windows.view(apart).transpose(2, 3)
        parts += _explicit(layer.weight, rows.reshape(-1, *weight.shape))
    return parts


def _windows(came: Tensor, kernel: Pair, places: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Tensor:
    """What each weight meets at each place, (b, channels * kernel, places): `torch.nn.functional.unfold`, faster."""
    (up, left), (down, right) = padding, stride
    wide = functional.pad(came, (left, left, up, up)).contiguous() if up or left else came.contiguous()
    each, channel, row, cell = wide.stride()
    shape = (*came.shape[:2], *kernel, *places)
    steps = (each, channel, row * dilation[0], cell * dilation[1], row * down, cell * right)
    return wide.as_strided(shape, steps).reshape(len(came), -1, places[0] * places[1])


def _two(sizes: list[int] | int) -> Pair:
    listed = sizes if isinstance(sizes, list) else [sizes]
    return listed[0], listed[-1]


def _group_norm(layer: Layer, given: tuple[Any, ...], slope: Tensor) -> list[Part]:
    came, groups, _, _, *eps = given
    normal = functional.group_norm(came, groups, None, None, *eps[:1])
    return [
        *_explicit(layer.weight, (slope * normal).reshape(*slope.shape[:2], -1).sum(2)),
        *_explicit(layer.bias, slope.reshape(*slope.shape[:2], -1).sum(2)),
    ]


def _layer_norm(layer: Layer, given: tuple[Any, ...], slope: Tensor) -> list[Part]:
    came, shape, _, _, *eps = given
    normal = functional.layer_norm(came, shape, None, None, *eps[:1])
    apart = (len(slope), -1, *shape)
    return [
        *_explicit(layer.weight, (slope * normal).reshape(apart).sum(1)),
        *_explicit(layer.bias, slope.reshape(apart).sum(1)),
    ]


KINDS: dict[str, Callable[[Layer, tuple[Any, ...], Tensor], list[Part]]] = {
    "aten.linear.default": _linear,
    "aten.conv1d.default": _conv,
    "aten.conv2d.default": _conv,
    "aten.group_norm.default": _group_norm,
    "aten.layer_norm.default": _layer_norm,
}
