"""Runs a graph: looks each operation up by its exact name, and calls them one after the other.

No source is generated and nothing is compiled; a graph is a list of (operation, where its arguments
are, where its result goes). Only graphs that passed `validate` may come here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import getitem, itemgetter
from typing import Any

import torch

from grid.learning.opset import ALLOWED, INTEGER_OPS, ITEM, NUMBERS, SAFE_RESULTS, SIZE
from grid.learning.recipe import Graph, Node
from grid.learning.validate import refs
from grid.wire.problems import PlanRefused

TORCH_TYPES = {
    "F64": torch.float64,
    "I64": torch.int64,
    "F32": torch.float32,
    "I32": torch.int32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}

Operation = Callable[..., Any]
Slots = list[Any]
Arguments = Callable[[Slots], Sequence[Any]]
Tap = Callable[[int, Operation], Operation]
"""Given the place of a node in its graph and its operation: what is called instead."""


def untapped(_: int, operation: Operation) -> Operation:
    """The operation itself."""
    return operation


class Program:
    """A graph made ready for one mode, training or evaluation.

    Values live in slots. A slot is used again as soon as its value has been read for the last time, so
    intermediate tensors are freed about as early as in the module that the graph was captured from.
    """

    def __init__(self, graph: Graph, *, training: bool, device: str = "cpu", tap: Tap = untapped) -> None:
        self._training, self._device = training, torch.device(device)
        self._width = len(graph.inputs)
        self._tail: Slots = []  # the slots behind the inputs: constants, and room for results
        self._places = list(range(self._width))  # the slot of each value
        self._steps: list[tuple[Operation, Arguments, int]] = []
        free: list[int] = []
        for place, (node, dying) in enumerate(zip(graph.nodes, _dying(graph), strict=True)):
            operation, arguments = self._prepare(node)
            number = len(self._places)
            free += [self._places[ref] for ref in dying if self._width <= ref < number]
            self._places.append(free.pop() if free else self._slot(None))
            self._steps.append((tap(place, operation), arguments, self._places[number]))
            if number in dying:
                free.append(self._places[number])
        self._outputs = [self._places[ref] for ref in graph.outputs]

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        """The graph's outputs; `inputs` in the order of the graph's."""
        slots = [*inputs, *self._tail]
        for operation, arguments, slot in self._steps:
            slots[slot] = operation(*arguments(slots))
        return [slots[slot] for slot in self._outputs]

    def watched(self, inputs: Sequence[Any]) -> Iterator[Any]:
        """Each result as it comes, and the list of outputs as the last one."""
        slots = [*inputs, *self._tail]
        for operation, arguments, slot in self._steps:
            slots[slot] = operation(*arguments(slots))
            yield slots[slot]
        yield [slots[slot] for slot in self._outputs]

    def _slot(self, value: Any) -> int:
        self._tail.append(value)
        return self._width + len(self._tail) - 1

    def _prepare(self, node: Node) -> tuple[Operation, Arguments]:
        operation = resolve(node.op)
        given = [*node.args, *node.kwargs.values()]
        if node.kwargs:
            operation = _with_names(operation, len(node.args), tuple(node.kwargs))
        if not any(isinstance(argument, list) and next(refs(argument), None) is not None for argument in given):
            return operation, _fetch([self._place(argument) for argument in given])
        parts = [self._builder(argument) for argument in given]
        return operation, lambda slots: [part(slots) for part in parts]

    def _place(self, argument: Any) -> int:
        """The slot of an argument without references inside a list: its value's, or a new one for a constant."""
        if isinstance(argument, dict) and "ref" in argument:
            return self._places[argument["ref"]]
        return self._slot(self._constant(argument))

    def _builder(self, argument: Any) -> Callable[[Slots], Any]:
        """What makes an argument that may be a list with references in it."""
        if isinstance(argument, list):
            parts = [self._builder(part) for part in argument]
            return lambda slots: [part(slots) for part in parts]
        return itemgetter(self._place(argument))

    def _constant(self, argument: Any) -> Any:
        match argument:
            case {"mode": [training, evaluation]}:
                return training if self._training else evaluation
            case {"dtype": dtype}:
                return TORCH_TYPES[dtype]
            case {"device": _}:
                return self._device
            case list():
                return [self._constant(part) for part in argument]
        return argument


def resolve(name: str) -> Operation:
    """The operation of that name.

    Raises:
        PlanRefused: it is not on the list, or this torch does not have it.
    """
    if name == ITEM:
        return getitem
    if name in INTEGER_OPS:
        return _INTEGER[name]
    if name == SIZE:
        return torch.Tensor.size
    if name == NUMBERS:
        return torch.Tensor.numel
    if name not in ALLOWED:
        raise PlanRefused(f"{name[:60]!r} is not an operation that plans may use")
    _, packet, overload = name.split(".")
    try:
        found = getattr(getattr(torch.ops.aten, packet), overload)
    except AttributeError:
        raise PlanRefused(f"this node's torch {torch.__version__} has no {name}") from None
    if name in SAFE_RESULTS:
        kept = SAFE_RESULTS[name]
        return lambda *args, **kwargs: found(*args, **kwargs)[:kept]
    # The overload's own call adds a Python frame and nothing else.
    return getattr(found, "_op", found)  # type: ignore[no-any-return]


def _dying(graph: Graph) -> list[set[int]]:
    """For each node, the values that nobody reads after it; its own result, where nobody reads it at all."""
    dying: list[set[int]] = [set() for _ in graph.nodes]
    read = set(graph.outputs)
    for place in reversed(range(len(graph.nodes))):
        node, number = graph.nodes[place], len(graph.inputs) + place
        seen = {ref for argument in (*node.args, *node.kwargs.values()) for ref in refs(argument)}
        dying[place] = (seen | {number}) - read
        read |= seen
    return dying


def _fetch(places: list[int]) -> Arguments:
    if len(places) == 1:
        only = places[0]
        return lambda slots: (slots[only],)
    return itemgetter(*places) if places else lambda slots: ()


def _with_names(operation: Operation, positional: int, names: tuple[str, ...]) -> Operation:
    def call(*values: Any) -> Any:
        return operation(*values[:positional], **dict(zip(names, values[positional:], strict=True)))

    return call


def _bounded(operation: Callable[[int, int], int]) -> Operation:
    def apply(left: Any, right: Any) -> int:
        if not isinstance(left, int) or not isinstance(right, int):
            raise PlanRefused("sizes are whole numbers")
        result = operation(left, right)
        if abs(result) >= 1 << 63:
            raise PlanRefused("a size beyond 63 bits")
        return result

    return apply


_INTEGER: dict[str, Operation] = {
    "int.add": _bounded(int.__add__),
    "int.sub": _bounded(int.__sub__),
    "int.mul": _bounded(int.__mul__),
    "int.floordiv": _bounded(int.__floordiv__),
}
