"""Plans written down directly, without torch: linear, mlp, cnn. Initial parameters as torch's layers draw them."""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from grid.learning.recipe import BATCH, Graph, Input, InputKind, Node
from grid.wire.problems import PlanRefused

Values = dict[str, bytes]


def ref(value: int) -> dict[str, int]:
    """An argument that is another value."""
    return {"ref": value}


class Draft:
    """A model under construction: `flow` is the value that the next layer takes.

    Weights and biases are drawn from U(-1/sqrt(fan_in), 1/sqrt(fan_in)), float32.
    """

    def __init__(self, features: tuple[int, ...], seed: int) -> None:
        self._features = features
        self._random = random.Random(seed)  # noqa: S311 initial weights are no secret
        self._layers: list[tuple[str, list[Any], tuple[Input, ...]]] = []
        self.values: Values = {}

    def layer(self, op: str, *arguments: Any, **weights: tuple[int, ...]) -> None:
        """Add `op(flow, *weights, *arguments)`; the first weight's shape is (out, in, ...)."""
        number = len(self._layers)
        inputs = tuple(
            self._drawn(f"{number}.{name}", shape, fan_in=math.prod(next(iter(weights.values()))[1:]))
            for name, shape in weights.items()
        )
        self._layers.append((op, list(arguments), inputs))

    def graph(self) -> Graph:
        """The layers one after the other; the last one's value is the output."""
        inputs = tuple(entry for _, _, entries in self._layers for entry in entries)
        flow, weight = len(inputs), 0
        nodes = []
        for op, arguments, entries in self._layers:
            weights = [ref(weight + i) for i in range(len(entries))]
            nodes.append(Node(op, [ref(flow), *weights, *arguments], {}))
            weight += len(entries)
            flow = len(inputs) + len(nodes)
        features = Input("input", "features", "F32", (BATCH, *self._features))
        return Graph((*inputs, features), tuple(nodes), (flow,))

    def _drawn(self, name: str, shape: tuple[int, ...], fan_in: int) -> Input:
        bound, draw = 1 / math.sqrt(fan_in), self._random.uniform
        self.values[name] = array("f", (draw(-bound, bound) for _ in range(math.prod(shape)))).tobytes()
        kind: InputKind = "param"
        return Input(kind, name, "F32", shape)


def linear(features: int, outputs: int, seed: int) -> tuple[Graph, Values]:
    """(B, features) to (B, outputs)."""
    return mlp((features, outputs), seed)


def mlp(sizes: Sequence[int], seed: int) -> tuple[Graph, Values]:
    """Linear layers with ReLU between them: (B, sizes[0]) to (B, sizes[-1])."""
    if len(sizes) < 2 or min(sizes) < 1:
        raise PlanRefused("an mlp needs at least two sizes above 0, such as [64, 128, 10]")
    draft = Draft((sizes[0],), seed)
    for depth, (wide, out) in enumerate(pairwise(sizes)):
        if depth:
            draft.layer("aten.relu.default")
        draft.layer("aten.linear.default", weight=(out, wide), bias=(out,))
    return draft.graph(), draft.values


def cnn(
    image: tuple[int, int, int], outputs: int, channels: Sequence[int], hidden: int, seed: int
) -> tuple[Graph, Values]:
    """3x3 convolutions, each with ReLU and 2x2 max pooling, then two linear layers.

    `image` is (channels, height, width); examples come flat: (B, channels * height * width) to (B, outputs).
    """
    depth, height, width = image
    if min(image) < 1 or min(height, width) >> len(channels) < 1:
        raise PlanRefused(f"an image of {height} x {width} cannot be halved {len(channels)} times")
    draft = Draft((depth * height * width,), seed)
    draft.layer("aten.view.default", [-1, depth, height, width])
    for out in channels:
        draft.layer("aten.conv2d.default", [1, 1], [1, 1], weight=(out, depth, 3, 3), bias=(out,))
        draft.layer("aten.relu.default")
        draft.layer("aten.max_pool2d.default", [2, 2])
        depth, height, width = out, height // 2, width // 2
    draft.layer("aten.flatten.using_ints", 1)
    draft.layer("aten.linear.default", weight=(hidden, depth * height * width), bias=(hidden,))
    draft.layer("aten.relu.default")
    draft.layer("aten.linear.default", weight=(outputs, hidden), bias=(outputs,))
    return draft.graph(), draft.values
