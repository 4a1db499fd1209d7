"""Writes a trace of `torch.export` down as plan nodes, or says what in it has no place in a plan."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch._ops import OpOverload
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind as Source

from grid.learning.interpreter import TORCH_TYPES
from grid.learning.opset import ALLOWED, INTEGER_OPS, ITEM, NUMBERS, RUNNING_STATISTICS, SIZE
from grid.learning.recipe import Node
from grid.learning.validate import refs
from grid.wire.problems import CaptureFailed

_DTYPES = {dtype: {"dtype": name} for name, dtype in TORCH_TYPES.items()}
_SIZES: dict[Any, str] = {
    operator.add: "int.add",
    operator.sub: "int.sub",
    operator.mul: "int.mul",
    operator.floordiv: "int.floordiv",
}
_SAME = {"aten.lift_fresh_copy.default", "aten.alias.default", "aten.lift_fresh.default"}  # give what they get
_CHECKS = ("aten._assert", "aten.sym_constrain_range")  # of export's own; the self-check takes their place
_RENAMED = {
    "aten.__and__.Tensor": "aten.bitwise_and.Tensor",
    "aten.__or__.Tensor": "aten.bitwise_or.Tensor",
    "aten.to.dtype_layout": "aten.to.dtype",
    "aten.swapaxes.default": "aten.transpose.int",
    "aten.swapdims.default": "aten.transpose.int",
}
_ENDLESS = 3.4028234663852886e38  # for infinity, which JSON does not have: in a mask before a softmax it is the same
_LEFT_OUT = {"pin_memory", "layout"}
_IN_VAIN = {ITEM, SIZE, NUMBERS} | INTEGER_OPS  # without effect where nobody reads the result
_ADVICE = "write it with other operations (`grid.learning.opset` lists them), or leave that part out"


class Value(NamedTuple):
    """An input of a trace. `tensor` is None for what the caller of the module gives."""

    name: str
    trained: bool
    tensor: torch.Tensor | None


class Trace:
    """One mode of a module as plan nodes. Values are numbered: all inputs first, used or not, then nodes.

    Raises:
        CaptureFailed: an operation, argument or write that plans do not have.
    """

    def __init__(self, program: ExportedProgram, module: torch.nn.Module, what: str) -> None:
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []
        self.outputs: list[int] = []
        self._what = what
        self._known: dict[torch.fx.Node, Any] = {}
        nodes = list(program.graph.nodes)
        placeholders = [node for node in nodes if node.op == "placeholder"]
        self._read_inputs(placeholders, program, module)
        for node in nodes[len(placeholders) :]:
            if node.op == "output":
                self._read_outputs(node)
            elif node.op == "call_function":
                self._read_call(node)
            else:  # a subgraph: torch.cond, a loop, a no_grad block
                self._fail(f"{node.name!r} is a branch, a loop or a no_grad block", "use torch.where or .detach()")

    def _fail(self, reason: str, advice: str = _ADVICE) -> None:
        raise CaptureFailed(f"{self._what}: {reason}; {advice}")

    def _read_inputs(self, placeholders: list[Any], program: ExportedProgram, module: torch.nn.Module) -> None:
        tensors = {**dict(module.named_parameters(remove_duplicate=False)), **program.constants}
        tensors |= dict(module.named_buffers(remove_duplicate=False))
        first: dict[int, int] = {}  # tied tensors are one value
        for number, (node, source) in enumerate(zip(placeholders, program.graph_signature.input_specs, strict=True)):
            if source.kind == Source.USER_INPUT:
                self.inputs.append(Value(node.name, False, None))
                self._known[node] = {"ref": number}
                continue
            tensor = tensors.get(source.target or "")
            if not isinstance(tensor, torch.Tensor):
                raise CaptureFailed(f"{self._what}: {source.target} is not a tensor")
            trained = source.kind == Source.PARAMETER and tensor.requires_grad
            self.inputs.append(Value(str(source.target), trained, tensor))
            self._known[node] = {"ref": first.setdefault(id(tensor), number)}

    def _read_outputs(self, node: torch.fx.Node) -> None:
        for output in node.args[0]:  # type: ignore[union-attr]
            if not isinstance(output, torch.fx.Node):
                raise CaptureFailed(f"{self._what}: an output is not a tensor")
            self.outputs.append(self._known[output]["ref"])

    def _read_call(self, node: torch.fx.Node) -> None:
        if node.target in _SIZES:
            self._add(node, _SIZES[node.target], node.args, {})
        elif node.target is operator.getitem:
            self._add(node, ITEM, node.args, {})
        elif isinstance(node.target, OpOverload):
            self._read_operation(node, node.target)
        else:
            called = str(getattr(node.target, "__name__", node.target))[:40]
            self._fail(
                f"it computes with {called} what is no tensor, such as a size",
                "no shape may depend on values, as that of x[x > 0] does; use torch.where, and tensor operations only",
            )

    def _read_operation(self, node: torch.fx.Node, target: OpOverload) -> None:
        name = _RENAMED.get(str(target), str(target))
        if name.startswith(_CHECKS):
            return
        if name in _SAME:
            self._known[node] = self._known[node.args[0]]  # type: ignore[index]
        elif target._schema.is_mutable:  # noqa: SLF001 torch has no public name for it
            self._read_write(node, name)
        else:
            if name == "aten.to.device":
                self._fail("it moves tensors between devices", "a node decides itself where a plan runs")
            self._add(node, name, node.args, node.kwargs)

    def _read_write(self, node: torch.fx.Node, name: str) -> None:
        """`relu_` becomes `relu`, and all that comes after reads its result in place of what was overwritten."""
        written = node.args[0]
        _, packet, overload = name.split(".")
        functional = f"aten.{packet.rstrip('_')}.{overload}"
        if isinstance(written, torch.fx.Node) and written.op == "placeholder":
            known, _, kept = self.inputs[self._known[written]["ref"]]
            if kept is None:
                self._fail(f"{name} writes to the input {known}", "write to a copy, as in x = x.clone()")
            if known.endswith("num_batches_tracked"):
                return  # counts batches for nobody
            self._fail(
                f"{name} writes to {known}, which outlives the batch",
                "a plan may keep nothing between batches but batch_norm's statistics",
            )
        if functional not in ALLOWED:
            self._fail(
                f"{name} writes in place, as y[:, 0] = 0 does",
                "use an operation that returns its result, as torch.where",
            )
        self._add(node, functional, node.args, node.kwargs)
        self._known[written] = self._known[node]  # type: ignore[index]

    def _add(self, node: torch.fx.Node, name: str, args: Iterable[Any], kwargs: dict[str, Any]) -> None:
        if name not in ALLOWED and name not in _IN_VAIN:
            unfilled = name.startswith(("aten.empty", "aten.new_empty"))
            advice = "use torch.zeros, or torch.rand for a random mask" if unfilled else _ADVICE
            self._fail(f"{name} is not among the operations of plans", advice)
        given = {key: self._encode(value, name) for key, value in kwargs.items() if key not in _LEFT_OUT}
        if given.get("memory_format", 0) is None:
            del given["memory_format"]
        self._known[node] = {"ref": len(self.inputs) + len(self.nodes)}
        self.nodes.append(Node(name, [self._encode(value, name) for value in args], given))

    def _encode(self, value: Any, name: str) -> Any:
        match value:
            case torch.fx.Node():
                return self._known[value]
            case torch.dtype() if value in _DTYPES:
                return _DTYPES[value]
            case torch.device():
                return {"device": "self"}
            case torch.memory_format() if value in (torch.contiguous_format, torch.preserve_format):
                return None
            case list() | tuple():
                return [self._encode(part, name) for part in value]
            case float() if math.isinf(value):
                return math.copysign(_ENDLESS, value)
            case None | bool() | int() | float() | str():
                return value
        raise CaptureFailed(f"{self._what}: {name} has the argument {value!s:.60}, which plans do not have; {_ADVICE}")


def merged(training: Trace, evaluation: Trace, what: str) -> list[Node]:
    """The nodes of both modes as one; where a plain argument differs there is a mode switch."""
    names = [[node.op for node in trace.nodes] for trace in (training, evaluation)]
    if names[0] != names[1] or training.outputs != evaluation.outputs:
        raise CaptureFailed(
            f"{what}: it computes something else in training than in evaluation; only arguments may differ, "
            "as dropout's do. Take `if self.training` out of forward; give attention need_weights=False"
        )
    nodes = []
    for node, other in zip(training.nodes, evaluation.nodes, strict=True):
        width = max(len(node.args), len(other.args))
        args = _merge(_filled(node, width), _filled(other, width), what, node.op)
        nodes.append(Node(node.op, args, _merge(node.kwargs, other.kwargs, what, node.op)))
    return nodes


def _filled(node: Node, width: int) -> list[Any]:
    """Positional arguments up to `width`: a trace leaves out those that have their default."""
    if len(node.args) == width:
        return node.args
    _, packet, overload = node.op.split(".")
    arguments = getattr(getattr(torch.ops.aten, packet), overload)._schema.arguments  # noqa: SLF001
    return node.args + [argument.default_value for argument in arguments[len(node.args) : width]]


def _merge(one: Any, other: Any, what: str, name: str) -> Any:
    if type(one) is type(other):
        if isinstance(one, list) and len(one) == len(other):
            return [_merge(a, b, what, name) for a, b in zip(one, other, strict=True)]
        if isinstance(one, dict) and one.keys() == other.keys() and not one.keys() & {"ref", "dtype"}:
            return {key: _merge(one[key], other[key], what, name) for key in one}
        if one == other:
            return one
    if isinstance(one, (bool, int, float)) and isinstance(other, (bool, int, float)):
        return {"mode": [one, other]}
    raise CaptureFailed(f"{what}: {name} is called differently in training and in evaluation")


def trimmed(count: int, keep: Callable[[int], bool], nodes: list[Node], outputs: list[int]) -> tuple[Any, ...]:
    """Leave out what nobody reads: of `count` inputs those that `keep` does not hold, and vain nodes.

    Returns the numbers of the inputs that stay, the nodes and the outputs, numbered anew.
    """
    read = set(outputs)
    staying = []
    for number, node in reversed(list(enumerate(nodes, start=count))):
        if number in read or node.op not in _IN_VAIN:
            read |= {ref for argument in (*node.args, *node.kwargs.values()) for ref in refs(argument)}
            staying.append(number)
    inputs = [number for number in range(count) if number in read or keep(number)]
    place = {old: new for new, old in enumerate(inputs + staying[::-1])}
    renumbered = [
        Node(nodes[n - count].op, _renumber(nodes[n - count].args, place), _renumber(nodes[n - count].kwargs, place))
        for n in staying[::-1]
    ]
    return inputs, renumbered, tuple(place[number] for number in outputs)


def _renumber(argument: Any, place: dict[int, int]) -> Any:
    if isinstance(argument, list):
        return [_renumber(part, place) for part in argument]
    if isinstance(argument, dict):
        return {key: place[part] if key == "ref" else _renumber(part, place) for key, part in argument.items()}
    return argument


def statistics(nodes: list[Node]) -> set[int]:
    """The values that normalisations write to."""
    return {
        ref
        for node in nodes
        for position in RUNNING_STATISTICS.get(node.op, ())
        if position < len(node.args)
        for ref in refs(node.args[position])
    }
