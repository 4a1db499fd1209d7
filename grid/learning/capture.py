"""From a torch module to a plan's graph, on the scientist's side.

`torch.export` traces the module once for training and once for evaluation. Both traces are written down as
plan nodes; an argument that differs between them becomes a mode switch. Then the graph runs beside the
module, in both modes, and is given out only if nothing differs.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.export import Dim, ExportedProgram, export

from grid.learning.encode import Trace, merged, statistics, trimmed
from grid.learning.interpreter import TORCH_TYPES
from grid.learning.objectives import LOSSES
from grid.learning.recipe import BATCH, Graph, Input, InputKind, Recipe
from grid.learning.self_check import self_check
from grid.learning.state import State
from grid.wire.problems import CaptureFailed

Tensors = tuple[torch.Tensor, ...]
Values = dict[str, bytes]
AnyLoss = str | Callable[..., Any]
_NAMES = {dtype: name for name, dtype in TORCH_TYPES.items()}
_MAX_BATCH = 65_536


def capture(
    module: torch.nn.Module,
    example: torch.Tensor | Tensors,
    loss: AnyLoss,
    target: torch.Tensor | None = None,
) -> tuple[Graph, Graph | str, Values]:
    """The module's graph, its loss (a graph, where it is not a name), and the values of all their tensors.

    `example` is one batch, batch first; `target` one batch of targets, needed where `loss` is a function.

    Raises:
        CaptureFailed: what in the module has no place in a plan, and what to do about it.
    """
    inputs = _batch_of_two((example,) if isinstance(example, torch.Tensor) else tuple(example))
    copied = copy.deepcopy(module).cpu()
    outputs = _outputs(copied, inputs)
    graph, tensors = _graph_of(copied, inputs, "the module")
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise CaptureFailed(f"no loss is called {loss!r}; there are {', '.join(LOSSES)}, or give a function")
        named: Graph | str = loss
        goal = None
    else:
        if target is None:
            raise CaptureFailed("a loss of your own needs target=, one batch of targets, to be traced with")
        (goal,) = _batch_of_two((target,))
        named, constants = _graph_of(_Loss(loss), (*outputs, goal), "the loss")
        tensors |= {"loss." + name: tensor for name, tensor in constants.items()}
    recipe = Recipe(model=graph, loss=named)  # type: ignore[arg-type]
    values = {name: _bytes(tensor) for name, tensor in tensors.items()}  # before the check moves running statistics
    try:
        self_check(copied, loss, recipe, tensors, inputs, goal)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise CaptureFailed(
            f"module or plan fails on a random batch of {len(inputs[0]) + 1}: {_line(error)}"
        ) from error
    return graph, named, values


class _Loss(torch.nn.Module):
    """A loss function as a module of (outputs..., target)."""

    def __init__(self, loss: Callable[..., Any]) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        *outputs, target = values
        found: torch.Tensor = self.loss(outputs[0] if len(outputs) == 1 else tuple(outputs), target)
        return found


def _batch_of_two(tensors: Tensors) -> Tensors:
    """At least two examples: torch.export takes a size of 1 for a constant."""
    given: tuple[Any, ...] = tensors
    if not given or not all(isinstance(tensor, torch.Tensor) and tensor.dim() for tensor in given):
        raise CaptureFailed("the example is a tensor or a tuple of tensors, batch first")
    if len({len(tensor) for tensor in tensors}) != 1:
        raise CaptureFailed("the example's tensors have different batch sizes")
    doubled = (torch.cat([tensor, tensor]) if len(tensor) == 1 else tensor for tensor in tensors)
    return tuple(tensor.detach().cpu() for tensor in doubled)


def _outputs(module: torch.nn.Module, inputs: Tensors) -> Tensors:
    try:
        with torch.no_grad():
            found = copy.deepcopy(module)(*[tensor.clone() for tensor in inputs])
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        raise CaptureFailed(f"the module does not run on this example: {_line(error)}") from error
    outputs: Any = (found,) if isinstance(found, torch.Tensor) else found
    if not isinstance(outputs, (tuple, list)) or not all(isinstance(output, torch.Tensor) for output in outputs):
        raise CaptureFailed("the module must return a tensor or a tuple of tensors")
    return tuple(outputs)


def _graph_of(module: torch.nn.Module, inputs: Tensors, what: str) -> tuple[Graph, State]:
    """Both modes of a module as one graph, and the tensors it needs by name."""
    traces = []
    for training in (True, False):
        module.train(training)
        traces.append(Trace(_export(module, inputs, what), module, what))
    values = traces[0].inputs
    nodes = merged(traces[0], traces[1], what)
    kept, nodes, outputs = trimmed(len(values), lambda n: values[n].tensor is None, nodes, traces[0].outputs)
    written = statistics(nodes)
    given = iter(inputs)
    entries, tensors = [], {}
    for number, value in enumerate(values[n] for n in kept):
        if value.tensor is None:
            entries.append(_entry("input", value.name, example := next(given), (BATCH, *example.shape[1:])))
            continue
        kind: InputKind = "param" if value.trained else "buffer" if number in written else "const"
        tensors[value.name] = value.tensor.detach()
        entries.append(_entry(kind, value.name, value.tensor, tuple(value.tensor.shape)))
    return Graph(tuple(entries), tuple(nodes), outputs), tensors


def _entry(kind: InputKind, name: str, tensor: torch.Tensor, shape: tuple[int | str, ...]) -> Input:
    if tensor.dtype not in _NAMES:
        raise CaptureFailed(f"{name} has dtype {tensor.dtype}, which plans do not have")
    return Input(kind, name, _NAMES[tensor.dtype], shape)


def _export(module: torch.nn.Module, inputs: Tensors, what: str) -> ExportedProgram:
    batch = Dim("B", min=1, max=_MAX_BATCH)
    shapes = tuple({0: batch} for _ in inputs)
    if isinstance(module, _Loss):
        shapes = (shapes,)  # type: ignore[assignment]  # they come as *values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return export(module, inputs, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # torch.export raises dozens of types, and no common one
            raise CaptureFailed(f"{what} cannot be traced: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "data-dependent" in text or "DataDependent" in type(error).__name__:
        return "what it does depends on the values of tensors (`if x.sum() > 0`, .item()); use torch.where"
    if ".numpy()" in text:
        return "it leaves torch for numpy; write it with tensor operations"
    if "Constraints violated" in text or "ConstraintViolation" in type(error).__name__ or "pecialized" in text:
        return "it fixes the batch size; use x.shape[0] where the number of examples is meant"
    return _line(error)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}"


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
