"""Losses, metrics and steps with numpy alone, in float32: what a linear model needs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from grid.learning.arrays import Array
from grid.learning.recipe import Adam, AdamW, Optimizer, Sgd
from grid.wire.problems import PlanRefused

Floats = NDArray[np.float32]
Step = Callable[[list[Floats], float], None]
Loss = Callable[[Floats, Array], tuple[float, Floats]]

NEEDS_TORCH = "this node has no torch; it can train linear plans only"
CLASSES = "cross_entropy"  # the loss whose targets are class numbers

# --- losses: the mean over a batch, and its slope in the output ------------------------------------


def _cross_entropy(output: Floats, target: Array) -> tuple[float, Floats]:
    shifted = output - output.max(1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    slope, rows = np.exp(logs), np.arange(len(target))
    slope[rows, target] -= 1
    return float(-logs[rows, target].mean()), slope / np.float32(len(target))


def _mse(output: Floats, target: Array) -> tuple[float, Floats]:
    apart = output - target
    return float(np.square(apart).mean()), apart * np.float32(2 / apart.size)


def _bce_with_logits(output: Floats, target: Array) -> tuple[float, Floats]:
    small = np.exp(-np.abs(output))
    loss = np.maximum(output, 0) - output * target + np.log1p(small)
    chance = np.where(output >= 0, 1, small) / (1 + small)
    return float(loss.mean()), (chance - target) / np.float32(output.size)


def _accuracy(output: Floats, target: Array) -> float:
    answer = output.argmax(1) if output.shape[1] > 1 else output > 0
    return float((answer.reshape(-1) == target.reshape(-1)).mean())


def _top5(output: Floats, target: Array) -> float:
    """Whether fewer than five scores are above the right one's."""
    right = np.take_along_axis(output, target.astype(np.int64).reshape(-1, 1), 1)
    return float(((output > right).sum(1) < 5).mean())


LOSSES: dict[str, Loss] = {"cross_entropy": _cross_entropy, "mse": _mse, "bce_with_logits": _bce_with_logits}
METRICS: dict[str, Callable[[Floats, Array], float]] = {
    "accuracy": _accuracy,
    "top5": _top5,
    "mse": lambda output, target: float(np.square(output - target.reshape(output.shape)).mean()),
    "mae": lambda output, target: float(np.abs(output - target.reshape(output.shape)).mean()),
}


# --- steps ---------------------------------------------------------------------------------------

RULES = (Sgd, Adam, AdamW)


def clipped(gradients: list[Floats], bound: float) -> list[Floats]:
    """The gradients, scaled down where their common L2 norm is above `bound`; 0 is no bound."""
    norm = np.sqrt(sum(float(np.square(gradient).sum()) for gradient in gradients))
    if not bound or norm <= bound:
        return gradients
    return [gradient * np.float32(bound / (norm + 1e-6)) for gradient in gradients]


def stepper(rule: Optimizer, weights: list[Floats]) -> Step:
    """A function of (gradients, learning rate) that moves the weights in place: see `optimizers.stepper`.

    Raises:
        PlanRefused: the rule needs torch.
    """
    match rule:
        case Sgd():
            return _sgd(rule, weights)
        case Adam() | AdamW():
            return _adam(rule, weights)
    raise PlanRefused(NEEDS_TORCH)


def _sgd(rule: Sgd, weights: list[Floats]) -> Step:
    velocity = [np.zeros_like(weight) for weight in weights]

    def step(gradients: list[Floats], lr: float) -> None:
        for weight, moving, gradient in zip(weights, velocity, gradients, strict=True):
            gradient = gradient + np.float32(rule.weight_decay) * weight
            moving *= np.float32(rule.momentum)
            moving += gradient
            along = gradient + np.float32(rule.momentum) * moving if rule.nesterov else moving
            weight -= np.float32(lr) * along

    return step


def _adam(rule: Adam | AdamW, weights: list[Floats]) -> Step:
    means, squares = ([np.zeros_like(weight) for weight in weights] for _ in range(2))
    apart, steps = isinstance(rule, AdamW), 0

    def step(gradients: list[Floats], lr: float) -> None:
        nonlocal steps
        steps += 1
        size = np.float32(lr / (1 - rule.beta1**steps))
        for weight, mean, square, gradient in zip(weights, means, squares, gradients, strict=True):
            if apart:
                weight *= np.float32(1 - lr * rule.weight_decay)
            else:
                gradient = gradient + np.float32(rule.weight_decay) * weight
            mean += np.float32(1 - rule.beta1) * (gradient - mean)
            square *= np.float32(rule.beta2)
            square += np.float32(1 - rule.beta2) * gradient * gradient
            spread = np.sqrt(square) / np.float32((1 - rule.beta2**steps) ** 0.5) + np.float32(rule.eps)
            weight -= size * mean / spread

    return step
