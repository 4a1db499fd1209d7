from __future__ import annotations

from typing import Any

import pytest
import torch

from grid.learning.optimizers import clipped, stepper
from grid.learning.recipe import Adagrad, Adam, AdamW, Optimizer, RmsProp, Sgd

CASES: list[tuple[Optimizer, type[torch.optim.Optimizer], dict[str, Any]]] = [
    (Sgd(), torch.optim.SGD, {}),
    (Sgd(weight_decay=0.1), torch.optim.SGD, {"weight_decay": 0.1}),
    (Sgd(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    (
        Sgd(momentum=0.9, nesterov=True, weight_decay=0.1),
        torch.optim.SGD,
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
    ),
    (Adam(weight_decay=0.1), torch.optim.Adam, {"weight_decay": 0.1}),
    (AdamW(weight_decay=0.1), torch.optim.AdamW, {"weight_decay": 0.1}),
    (RmsProp(weight_decay=0.1), torch.optim.RMSprop, {"weight_decay": 0.1}),
    (Adagrad(weight_decay=0.1), torch.optim.Adagrad, {"weight_decay": 0.1}),
]


@pytest.mark.parametrize(("rule", "reference", "rest"), CASES, ids=lambda case: getattr(case, "__name__", ""))
def test_a_rule_steps_as_torch_optim_does(rule: Optimizer, reference: Any, rest: dict[str, Any]) -> None:
    torch.manual_seed(0)
    mine = [torch.randn(4, 3), torch.randn(5)]
    theirs = [tensor.clone().requires_grad_() for tensor in mine]
    optimizer, step = reference(theirs, lr=0.05, **rest), stepper(rule, mine)

    for _ in range(5):
        gradients = [torch.randn_like(tensor) for tensor in mine]
        for tensor, gradient in zip(theirs, gradients, strict=True):
            tensor.grad = gradient.clone()
        optimizer.step()
        step(gradients, 0.05)

    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped_by_their_common_norm() -> None:
    gradients = [torch.full((4,), 3.0), torch.full((4,), 4.0)]
    assert torch.cat(clipped(gradients, 5.0)).norm().item() == pytest.approx(5.0, rel=1e-5)
    assert torch.cat(clipped(gradients, 99.0)).tolist() == torch.cat(gradients).tolist()
