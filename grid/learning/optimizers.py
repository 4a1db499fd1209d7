"""The optimizers of `recipe`, over lists of tensors.

`torch.optim` would bring torch._dynamo with its first step, which costs each worker more than
torch itself; these are the same update rules, compared with it in the tests.
"""

# ruff: noqa: SLF001  the _foreach operations are how torch.optim itself steps

from __future__ import annotations

from collections.abc import Callable

import torch

from grid.learning.recipe import Adagrad, Adam, AdamW, Optimizer, RmsProp, Sgd

Tensors = list[torch.Tensor]
Step = Callable[[Tensors, float], None]


def stepper(optimizer: Optimizer, parameters: Tensors) -> Step:
    """A function of (gradients, learning rate) that moves the parameters in place; call it without grad."""
    match optimizer:
        case Sgd():
            return _sgd(optimizer, parameters)
        case Adam():
            return _adam(optimizer, parameters)
        case AdamW():
            return _adamw(optimizer, parameters)
        case RmsProp():
            return _rmsprop(optimizer, parameters)
        case Adagrad():
            return _adagrad(optimizer, parameters)


def clipped(gradients: Tensors, bound: float) -> Tensors:
    """The gradients, scaled down where their common L2 norm is above `bound`."""
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    return list(torch._foreach_mul(gradients, (bound / (norm + 1e-6)).clamp(max=1.0)))


def _decayed(gradients: Tensors, parameters: Tensors, decay: float) -> Tensors:
    return list(torch._foreach_add(gradients, parameters, alpha=decay)) if decay else gradients


def _zeros(parameters: Tensors) -> list[torch.Tensor]:
    return [torch.zeros_like(parameter) for parameter in parameters]


def _sgd(rule: Sgd, parameters: Tensors) -> Step:
    if not rule.momentum:
        return lambda gradients, lr: torch._foreach_add_(
            parameters, _decayed(gradients, parameters, rule.weight_decay), alpha=-lr
        )
    velocity = _zeros(parameters)

    def step(gradients: Tensors, lr: float) -> None:
        gradients = _decayed(gradients, parameters, rule.weight_decay)
        torch._foreach_mul_(velocity, rule.momentum)
        torch._foreach_add_(velocity, gradients)
        if rule.nesterov:
            torch._foreach_add_(parameters, gradients, alpha=-lr)
            torch._foreach_add_(parameters, velocity, alpha=-lr * rule.momentum)
        else:
            torch._foreach_add_(parameters, velocity, alpha=-lr)

    return step


def _adam(rule: Adam | AdamW, parameters: Tensors) -> Step:
    mean, square = _zeros(parameters), _zeros(parameters)
    steps = 0
    decay = rule.weight_decay if isinstance(rule, Adam) else 0.0

    def step(gradients: Tensors, lr: float) -> None:
        nonlocal steps
        steps += 1
        gradients = _decayed(gradients, parameters, decay)
        torch._foreach_lerp_(mean, gradients, 1 - rule.beta1)
        torch._foreach_mul_(square, rule.beta2)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - rule.beta2)
        spread = list(torch._foreach_sqrt(square))
        torch._foreach_div_(spread, (1 - rule.beta2**steps) ** 0.5)
        torch._foreach_add_(spread, rule.eps)
        torch._foreach_addcdiv_(parameters, mean, spread, -lr / (1 - rule.beta1**steps))

    return step


def _adamw(rule: AdamW, parameters: Tensors) -> Step:
    adam = _adam(rule, parameters)

    def step(gradients: Tensors, lr: float) -> None:
        torch._foreach_mul_(parameters, 1 - lr * rule.weight_decay)
        adam(gradients, lr)

    return step


def _rmsprop(rule: RmsProp, parameters: Tensors) -> Step:
    square = _zeros(parameters)

    def step(gradients: Tensors, lr: float) -> None:
        gradients = _decayed(gradients, parameters, rule.weight_decay)
        torch._foreach_mul_(square, rule.alpha)
        torch._foreach_addcmul_(square, gradients, gradients, 1 - rule.alpha)
        spread = list(torch._foreach_sqrt(square))
        torch._foreach_add_(spread, rule.eps)
        torch._foreach_addcdiv_(parameters, gradients, spread, -lr)

    return step


def _adagrad(rule: Adagrad, parameters: Tensors) -> Step:
    total = _zeros(parameters)

    def step(gradients: Tensors, lr: float) -> None:
        gradients = _decayed(gradients, parameters, rule.weight_decay)
        torch._foreach_addcmul_(total, gradients, gradients, 1.0)
        spread = list(torch._foreach_sqrt(total))
        torch._foreach_add_(spread, rule.eps)
        torch._foreach_addcdiv_(parameters, gradients, spread, -lr)

    return step
