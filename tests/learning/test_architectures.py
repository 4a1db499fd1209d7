"""A plan computes what the module computed that it was captured from: the same bits, whatever the module."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from grid.learning.model import Model
from grid.learning.plan import Plan
from grid.learning.rehearsal import rehearse
from grid.learning.state import State, tensor_views
from grid.learning.tensors import Layout
from grid.learning.validate import held_by
from tests.learning.architectures import ALL, Case

pytestmark = pytest.mark.slow  # the tracer of torch takes seconds to load, and then one for each model


def state_of(plan: Plan) -> State:
    """All tensors of a bundle, as a node reads them."""
    specs = held_by(plan.recipe).specs
    state = {spec.name: tensor_views(Layout((spec,)), bytearray(plan.values[spec.name]))[spec.name] for spec in specs}
    for entry in plan.recipe.model.named("param"):
        state[entry.name].requires_grad_()
    return state


def another_batch(example: Sequence[Tensor]) -> list[Tensor]:
    longer = [torch.cat([tensor, tensor]) for tensor in example]
    return [torch.randn_like(tensor) if tensor.is_floating_point() else tensor.roll(1, 0) for tensor in longer]


def ran(run: Callable[[], Any], weights: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and gradients of a sum in which each number of them has a weight of its own."""
    torch.manual_seed(7)
    found = run()
    outputs = [found] if isinstance(found, Tensor) else list(found)
    scored = (output * torch.linspace(-1, 1, output.numel()).view_as(output) for output in outputs)
    total = torch.stack([score.sum() for score in scored]).sum()
    return outputs, list(torch.autograd.grad(total, weights))


def same(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> bool:
    return len(found) == len(wanted) and all(one.equal(other) for one, other in zip(found, wanted, strict=True))


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
def test_outputs_gradients_and_statistics_are_those_of_the_module_in_both_modes(make: Callable[[], Case]) -> None:
    torch.manual_seed(0)
    module, example = make()
    before = copy.deepcopy(module.state_dict())

    plan = Plan.from_bundle(Plan.capture(module, example, loss="mse").bundle())

    assert same(list(module.state_dict().values()), list(before.values())), "the module is left as it was"
    assert rehearse(plan.recipe, 16, 1 << 30, device="cpu").outputs[0][0] == 16
    state, batch, parameters = state_of(plan), another_batch(example), dict(module.named_parameters())
    names = [entry.name for entry in plan.recipe.model.named("param")]
    assert set(names) == set(parameters)
    for training in (True, False):
        model = Model(plan.recipe, state, state, training=training)
        found = ran(lambda: model(batch), [state[name] for name in names])  # noqa: B023
        module.train(training)
        wanted = ran(lambda: module(*batch), [parameters[name] for name in names])
        assert same(found[0], wanted[0])
        assert same(found[1], wanted[1])
    buffers = module.state_dict()
    written = [entry.name for entry in plan.recipe.model.named("buffer")]
    assert same([state[name] for name in written], [buffers[name] for name in written])


def test_there_are_sixteen_and_each_is_another() -> None:
    assert len({make.__name__ for make in ALL}) == 16
