"""What a strategy changes in local training: a term beside each gradient, and what an update carries afterwards.

The terms come after clipping: `clip` bounds what one batch of records can do, and they say nothing of records.
"""

from __future__ import annotations

# ruff: noqa: SLF001  the _foreach operations are how torch.optim itself steps
from collections.abc import Callable, Mapping

import torch

from grid.learning.layouts import CONTROL
from grid.learning.outcome import Fitted
from grid.learning.recipe import Recipe, Sgd
from grid.learning.state import State
from grid.learning.strategy import ClientRule, Nova, Prox, Scaffold, Strategy

Tensors = list[torch.Tensor]


Correction = Callable[[Tensors], Tensors]  # gradients to what the optimizer gets


def plainly(gradients: Tensors) -> Tensors:
    """No correction at all."""
    return gradients


def correction(
    rule: ClientRule, weights: Mapping[str, torch.Tensor], server: Mapping[str, torch.Tensor], own: State
) -> Correction:
    """The rule's correction of gradients of `weights`, which stand at the model that came. Call without grad.

    `server` and `own` hold SCAFFOLD's c and c_i under `control:` and the parameter's name.
    """
    match rule:
        case Prox(mu=mu):
            return _pull(list(weights.values()), mu)
        case Scaffold():
            return _drift([(server[CONTROL + n] - own[CONTROL + n]).to(w) for n, w in weights.items()])
        case _:
            return plainly


def _pull(weights: Tensors, mu: float) -> Correction:
    """The gradient of mu/2 ||w - w^t||^2, which is mu (w - w^t): arXiv:1812.06127, equation 2."""
    anchors = [weight.detach().clone() for weight in weights]

    def correct(gradients: Tensors) -> Tensors:
        return list(torch._foreach_add(gradients, torch._foreach_sub(weights, anchors), alpha=mu))

    return correct


def _drift(apart: Tensors) -> Correction:
    """g_i(y) - c_i + c: arXiv:1910.06378, Algorithm 1, line 10 (equation 3). The difference stays for the round."""
    return lambda gradients: list(torch._foreach_add(gradients, apart))


def renew_control(before: State, after: State, own: State, unit: float) -> None:
    """SCAFFOLD's new c_i into `own`, and what it grew by into `after`, which goes to the server.

    c_i+ = c_i - c + (x - y_i) / (K lr), `unit` being K lr: arXiv:1910.06378, Algorithm 1, option II (equation 4).
    Where the optimizer has momentum, ||a||_1 of FedNova stands for K, which it is without.
    """
    for name, mine in own.items():
        parameter = name.removeprefix(CONTROL)
        growth = torch.zeros_like(mine)
        if unit:  # without a step nothing was learned of the gradient
            growth = (before[parameter].to(mine.dtype) - after[parameter].to(mine.dtype)) / unit - before[name]
        mine += growth
        after[name].copy_(growth)


def finish(
    strategy: Strategy, recipe: Recipe, fitted: Fitted, before: State, after: State, own: State
) -> dict[str, float]:
    """Make an update of a trained model, in place; returns the numbers that its report must have."""
    numbers = {}
    with torch.no_grad():
        if isinstance(strategy.client, Scaffold | Nova) and isinstance(recipe.optimizer, Sgd):
            amount = normaliser(recipe.optimizer, fitted.steps)
            renew_control(before, after, own, amount * fitted.lr)
            if isinstance(strategy.client, Nova):
                numbers["normaliser"] = amount
        if strategy.sends_delta:
            for entry in recipe.model.named("param"):
                after[entry.name] -= before[entry.name]
    return numbers


def normaliser(rule: Sgd, steps: int) -> float:
    """||a||_1 of FedNova: how far unit gradients would move a parameter in so many steps, in learning rates.

    `steps` for plain SGD; for momentum rho the closed form of arXiv:2007.07481, section 3: with
    rho^t = momentum, (steps - rho (1 - rho^steps) / (1 - rho)) / (1 - rho). Found by taking the steps, so it
    holds for nesterov as well. Weight decay counts as part of the objective.
    """
    moved = velocity = 0.0
    for _ in range(steps):
        velocity = rule.momentum * velocity + 1.0
        moved += 1.0 + rule.momentum * velocity if rule.nesterov else velocity
    return moved
