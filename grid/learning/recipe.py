"""A plan as data: two graphs of whitelisted operations, and how to train them.

Values of a graph are numbered: its inputs first, then one value for each node. An argument of a node is
null, a bool, an int, a finite float, one of a few words, a list of arguments, or one of four objects:
`{"ref": 3}` value 3, `{"mode": [t, e]}` t in training and e in evaluation, `{"dtype": "F32"}`, `{"device": "self"}`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from grid.privacy.rdp import epsilon_of_steps

FORMAT = "grid-plan/1"
BATCH = "B"  # stands in a shape for the number of examples

InputKind = Literal["param", "buffer", "const", "input"]
Loss = Literal["cross_entropy", "mse", "bce_with_logits", "l1", "huber"]
Metric = Literal["accuracy", "top5", "mse", "mae"]


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    """A piece of a recipe: kebab-case in JSON, unknown fields refused."""


class Input(Part, frozen=True):
    """A value that a graph starts from. Parameters are trained, buffers hold running statistics, constants stay."""

    kind: InputKind
    name: str
    dtype: str
    shape: tuple[int | str, ...]


class Node(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One operation: the exact name of an aten overload, and its arguments."""

    op: str
    args: list[Any]
    kwargs: dict[str, Any]


class Graph(Part, frozen=True):
    """Operations in order; `outputs` are numbers of values."""

    inputs: tuple[Input, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def named(self, *kinds: InputKind) -> tuple[Input, ...]:
        """The inputs of the given kinds, in order."""
        return tuple(entry for entry in self.inputs if entry.kind in kinds)


class Sgd(Part, frozen=True, tag="sgd", tag_field="name"):
    """Stochastic gradient descent."""

    lr: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0


class Adam(Part, frozen=True, tag="adam", tag_field="name"):
    """Kingma and Ba 2015, arXiv:1412.6980."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0


class AdamW(Part, frozen=True, tag="adamw", tag_field="name"):
    """Adam with decoupled weight decay: Loshchilov and Hutter 2019, arXiv:1711.05101."""

    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 1e-2


class RmsProp(Part, frozen=True, tag="rmsprop", tag_field="name"):
    """Gradients divided by a running average of their size (Hinton's lecture 6e)."""

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0


class Adagrad(Part, frozen=True, tag="adagrad", tag_field="name"):
    """Duchi, Hazan and Singer 2011."""

    lr: float = 1e-2
    eps: float = 1e-10
    weight_decay: float = 0.0


Optimizer = Sgd | Adam | AdamW | RmsProp | Adagrad
OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": Sgd,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RmsProp,
    "adagrad": Adagrad,
}


class Schedule(Part, frozen=True):
    """Learning rate over rounds: steps down, half a cosine, a warm-up, or several at once; all are factors.

    It is multiplied by `gamma` after each `every` rounds; over `cosine` rounds it falls along half a cosine to
    `floor` of itself and stays there (Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5, without restarts);
    over `warmup` rounds it grows in equal steps. 0 rounds leave that part out.
    """

    gamma: float = 1.0
    every: int = 1
    cosine: int = 0
    floor: float = 0.0
    warmup: int = 0

    def factor(self, round_number: int) -> float:
        """What the learning rate is multiplied by in that round; rounds count from 0."""
        found = float(self.gamma ** (round_number // self.every))
        if self.cosine:
            way = min(round_number / self.cosine, 1.0)
            found *= self.floor + (1 - self.floor) * (1 + math.cos(math.pi * way)) / 2
        if self.warmup:
            found *= min((round_number + 1) / self.warmup, 1.0)
        return found


class Transform(Part, frozen=True):
    """What is done once to the first input: (x - shift) / scale. One number each, or one for each feature."""

    shift: float | tuple[float, ...] = 0.0
    scale: float | tuple[float, ...] = 1.0


class Dp(Part, frozen=True):
    """Training that hides each single record (Abadi et al. 2016, arXiv:1607.00133, Algorithm 1).

    Each step takes each record with probability `rate`, clips its gradient to the L2 norm `clip`, and adds noise of
    standard deviation `noise` times `clip` to the sum. `delta` is the chance with which the epsilon may be told wrong.
    """

    clip: float
    noise: float
    rate: float = 0.1
    delta: float = 1e-5

    @property
    def steps_of_epoch(self) -> int:
        """Steps in which each record is taken once on average."""
        return math.ceil(1 / self.rate - 1e-9)

    def epsilon(self, steps: int) -> float:
        """What so many steps cost each record, at `delta`: adding or removing it is no easier to tell."""
        return epsilon_of_steps(self.rate, self.noise, steps, self.delta)


class Recipe(Part, frozen=True):
    """All of a plan but its numbers.

    `steps` (optimizer steps in a round) takes the place of `epochs` where it is not 0. `clip` bounds the
    L2 norm of a batch's gradient, 0 is no bound. A node with fewer than `minimum_examples` does not train.
    With `dp` a step takes a random part of the records, `batch` of them at a time in memory.
    """

    model: Graph
    loss: Graph | Loss
    format: str = FORMAT
    opset: int = 1
    metrics: tuple[Metric, ...] = ()
    optimizer: Optimizer = Sgd()
    schedule: Schedule = Schedule()
    epochs: int = 1
    steps: int = 0
    batch: int = 32
    clip: float = 0.0
    seed: int = 0
    transform: Transform | None = None
    minimum_examples: int = 32
    dp: Dp | None = None

    @property
    def private_steps(self) -> int:
        """Steps of a private round, the same at all nodes; 0 where the recipe is not private."""
        if self.dp is None:
            return 0
        return self.steps or self.epochs * self.dp.steps_of_epoch


class Limits(Part, frozen=True):
    """What a node grants a plan, whatever the plan asks for. Sizes in bytes.

    From the gradient of one example the example itself can be read, from few examples nearly so; hence the minima.
    """

    minimum_examples: int = 32
    minimum_batch: int = 8
    maximum_steps: int = 100_000
    memory: int = 2 << 30
    threads: int = 1
