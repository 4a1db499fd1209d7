"""Real fits: logistic regression in numpy, on examples that each node makes up for itself when it is its turn.

Nothing of a node is stored: its examples come from a counter-based generator (Philox, Salmon et al. 2011) keyed by its
id, so a fit costs the same among a hundred nodes and among a hundred thousand.
"""

from __future__ import annotations

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from grid.learning.aggregation import WeightedMean
from grid.learning.tensors import Layout, TensorSpec

Floats = NDArray[np.float32]

_STRANGERS = 1 << 48
"""Ids from here on belong to nobody: their examples measure the model."""


class Task(Struct, frozen=True, kw_only=True):
    """What is to be learned: which side of a plane an example lies on. Every node sees its own corner of the space.

    `own`: how far the middle of a node's examples lies from the common one; `noise`: the share of labels that are
    wrong; `loss`: it is learned when the loss on strangers' examples is so low, 0 for never.
    """

    features: int = 32
    examples: int = 32
    steps: int = 5
    rate: float = 0.05
    own: float = 1.0
    noise: float = 0.05
    loss: float = 0.0
    seed: int = 0


class Fits:
    """Learns by FedAvg over the changes of the counted nodes; buffered, with its weights, by FedBuff.

    Source: McMahan et al. 2017, arXiv:1602.05629, Algorithm 1; Nguyen et al. 2022, arXiv:2106.06581, Algorithm 1.
    """

    def __init__(self, task: Task) -> None:
        self.fitted = 0
        self.done = False
        self._task = task
        self._layout = Layout([TensorSpec("weights", "F32", (task.features,))])
        self._model: Floats = np.zeros(task.features, np.float32)
        self._mean: WeightedMean | None = None
        self._examples = self._weight = 0.0
        plane = np.random.Generator(np.random.Philox(key=[task.seed, _STRANGERS - 1])).standard_normal(task.features)
        self._plane = (plane / np.linalg.norm(plane)).astype(np.float32)
        strangers = [self.shard(_STRANGERS + number) for number in range(64)]
        self._unseen = np.concatenate([x for x, _ in strangers]), np.concatenate([y for _, y in strangers])

    @property
    def model(self) -> Floats:
        """The present weights, float32 (features,); made anew by each round, never changed."""
        return self._model

    def shard(self, node: int) -> tuple[Floats, Floats]:
        """A node's examples: x float32 (examples, features), y float32 (examples,) of 0 and 1."""
        task = self._task
        chance = np.random.Generator(np.random.Philox(key=[task.seed, node]))
        normal = chance.standard_normal((task.examples + 1, task.features), np.float32)
        x = normal[1:] + np.float32(task.own) * normal[0]
        right = chance.random(task.examples, np.float32) >= task.noise
        return x, ((x @ self._plane > 0) == right).astype(np.float32)

    def fit(self, model: Floats, node: int) -> Floats:
        """The change of the weights by some steps of gradient descent on a node's examples, float32 (features,)."""
        x, y = self.shard(node)
        weights = model.copy()
        rate = np.float32(self._task.rate / len(y))
        for _ in range(self._task.steps):
            weights -= rate * ((_sigmoid(x @ weights) - y) @ x)
        weights -= model
        self.fitted += 1
        return weights

    def fold(self, model: Floats, node: int, examples: int, worth: float) -> None:
        """Fit, and count the change by its examples and by what it is worth."""
        if self._mean is None:
            self._mean = WeightedMean(self._layout)
        self._mean.add(self.fit(model, node).data.cast("B"), examples * worth)
        self._examples += examples
        self._weight += examples * worth

    def publish(self) -> float:
        """The next model; its loss on the examples of strangers. Changes that are worth less make a shorter step."""
        change: Floats = np.zeros_like(self._model)
        if self._mean is not None:
            self._mean.result_into(change.data.cast("B"))
            change *= np.float32(self._weight / self._examples)
        self._model = self._model + change
        self.discard()
        loss = self.loss()
        self.done = loss <= self._task.loss
        return loss

    def loss(self) -> float:
        """Mean cross entropy of the present model, in nats."""
        x, y = self._unseen
        side = np.where(y > 0, 1.0, -1.0) * (x @ self._model)
        return float(np.logaddexp(0.0, -side).mean())

    def discard(self) -> None:
        """Begin a new mean."""
        self._mean, self._examples, self._weight = None, 0.0, 0.0


def _sigmoid(z: Floats) -> Floats:
    # tanh neither overflows nor warns
    half: Floats = np.float32(0.5) * (np.tanh(np.float32(0.5) * z) + np.float32(1.0))
    return half
