"""A module and the plan that was made of it, run side by side: a plan is given out only if nothing differs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from grid.learning.model import Model
from grid.learning.recipe import Recipe
from grid.learning.state import State
from grid.learning.validate import validate
from grid.wire.problems import CaptureFailed, PlanRefused

Tensors = tuple[torch.Tensor, ...]
_COUNTER = "num_batches_tracked"  # of batch_norm; plans do not count


def self_check(
    module: torch.nn.Module,
    loss: str | Callable[..., Any],
    recipe: Recipe,
    tensors: State,
    inputs: Tensors,
    target: torch.Tensor | None,
) -> None:
    """Run module and plan in both modes: outputs, loss, gradients and statistics must be the same bits.

    The running statistics of `module` move.

    Raises:
        CaptureFailed: what differs.
    """
    state = {name: tensor.clone() for name, tensor in tensors.items()}
    weights = [state[entry.name].requires_grad_() for entry in recipe.model.named("param")]
    names = [entry.name for entry in recipe.model.named("param")]
    originals = dict(module.named_parameters(remove_duplicate=False))
    before = {name: buffer.clone() for name, buffer in module.named_buffers() if not name.endswith(_COUNTER)}
    another = _another_batch((*inputs, target) if target is not None else inputs)
    features = another[: len(inputs)]
    for training in (True, False):
        mode = "training" if training else "evaluation"
        module.train(training)
        model = _ready(recipe, state, training)
        found = _under_seed(lambda: model(features))  # noqa: B023
        wanted = _under_seed(lambda: _flat(module(*features)))
        _require_same(found, wanted, f"an output in {mode}")
        if target is not None and not isinstance(loss, str):
            whole = wanted[0] if len(wanted) == 1 else tuple(wanted)
            _require_same([model.loss(found, another[-1])], [loss(whole, another[-1]).reshape(())], f"loss in {mode}")
        theirs = _gradients(wanted, [originals[name] for name in names])
        try:
            _require_same(_gradients(found, weights), theirs, f"a gradient in {mode}")
        except CaptureFailed:
            _require_no_function(wanted)
            raise
        buffers = dict(module.named_buffers())
        kept = [state.get(name, old) for name, old in before.items()]
        _require_same(kept, [buffers[name] for name in before], f"a buffer after {mode}")


def _ready(recipe: Recipe, state: State, training: bool) -> Model:
    try:
        validate(recipe)
        return Model(recipe, state, state, training=training)
    except PlanRefused as error:
        raise CaptureFailed(f"the plan would be refused: {error.detail}") from None


def _another_batch(tensors: Tensors) -> Tensors:
    """One example more than in the trace; new numbers where they are floats, as class numbers are bounded."""
    longer = [torch.cat([tensor.roll(1, 0), tensor[:1]]) for tensor in tensors]
    return tuple(torch.randn_like(tensor) if tensor.is_floating_point() else tensor for tensor in longer)


def _under_seed(run: Callable[[], list[torch.Tensor]]) -> list[torch.Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return run()


def _flat(output: Any) -> list[torch.Tensor]:
    return [output] if isinstance(output, torch.Tensor) else list(output)


def _gradients(outputs: Sequence[torch.Tensor], weights: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    total = sum((output.sum() for output in outputs if output.requires_grad), torch.zeros(()))
    if not weights or not total.requires_grad:
        raise CaptureFailed("the module has no parameter that can be trained")
    found: Sequence[torch.Tensor | None] = torch.autograd.grad(total, weights, allow_unused=True)
    if any(gradient is not None and gradient.is_sparse for gradient in found):
        raise CaptureFailed("a gradient of the module is sparse; leave sparse=True out of its embeddings")
    unused = torch.zeros(())
    return [unused if gradient is None else gradient for gradient in found]


def _require_same(found: Sequence[torch.Tensor], wanted: Sequence[torch.Tensor], what: str) -> None:
    for mine, theirs in zip(found, wanted, strict=True):
        if mine.shape != theirs.shape or not torch.allclose(mine, theirs, rtol=0, atol=0, equal_nan=True):
            raise CaptureFailed(
                f"the plan does not compute what the module computes: {what} differs. "
                "Look for in-place writes to views, for state that the module keeps between calls, and for random "
                "numbers that are not torch's"
            )


def _require_no_function(outputs: Sequence[torch.Tensor]) -> None:
    """Say so where a torch.autograd.Function is among what made these outputs: a trace has its forward only."""
    ahead: list[Any] = [output.grad_fn for output in outputs]
    seen: set[Any] = set()
    while ahead:
        step = ahead.pop()
        if step is None or step in seen:
            continue
        seen.add(step)
        if isinstance(step, torch.autograd.function.BackwardCFunction):
            called = type(step).__name__.removesuffix("Backward")
            raise CaptureFailed(
                f"the module calls the autograd function {called!r}, whose own backward "
                "a plan cannot have; write it with tensor operations: x + (f(x) - x).detach() passes gradients by f"
            )
        ahead += [before for before, _ in step.next_functions]
