"""What a recipe may say. Read before anything runs, without numpy or torch, in time linear in its size."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from grid.learning.opset import (
    ALLOWED,
    EINSUM,
    INTEGER_OPS,
    ITEM,
    OPSET,
    RUNNING_STATISTICS,
    WORDS,
)
from grid.learning.recipe import BATCH, FORMAT, Dp, Graph, Input, Node, Recipe
from grid.learning.tensors import FLOATS, ITEM_BYTES, MAX_RANK, Layout, TensorSpec
from grid.wire.problems import PlanRefused

MAX_NODES = 10_000
MAX_ARGUMENTS = 32
MAX_LIST = 1024
MAX_DEPTH = 3
MAX_INTEGER = 1 << 63
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]{0,199}")
_EQUATION = re.compile(r"[a-z,.> -]{1,64}")

# (least, most) of every number in a recipe, both allowed.
BOUNDS: dict[str, tuple[float, float]] = {
    "epochs": (1, 1000),
    "steps": (0, 1_000_000),
    "batch": (1, 65_536),
    "clip": (0, 1e6),
    "seed": (0, (1 << 63) - 1),
    "minimum_examples": (1, 1 << 40),
    "lr": (1e-12, 100),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "beta1": (0, 0.9999),
    "beta2": (0, 0.999999),
    "alpha": (0, 0.999999),
    "eps": (1e-16, 1),
    "gamma": (1e-6, 1),
    "every": (1, 1_000_000),
    "cosine": (0, 1_000_000),
    "floor": (0, 1),
    "warmup": (0, 1_000_000),
}


# The same of its private part. A rate or noise that is smaller would be out of reach of the accountant's numbers.
PRIVATE_BOUNDS: dict[str, tuple[float, float]] = {
    "clip": (1e-6, 1e6),
    "noise": (0.05, 1e6),
    "rate": (1e-6, 1),
    "delta": (1e-15, 0.1),
}
MIXES = ("aten.batch_norm.default",)
"""Operations through which one example's gradient depends on the others of its batch."""


def validate(recipe: Recipe) -> None:
    """Refuse whatever breaks a rule of the format.

    Raises:
        PlanRefused: the detail names the node, input or field, and the rule.
    """
    if recipe.format != FORMAT or recipe.opset != OPSET:
        raise PlanRefused(f"this node reads {FORMAT}, opset {OPSET}; the plan is {recipe.format}, opset {recipe.opset}")
    _check_numbers(recipe)
    _check_graph(recipe.model, "model")
    if not recipe.model.named("param") or not recipe.model.named("input"):
        raise PlanRefused("the model needs at least one parameter and one input")
    if isinstance(recipe.loss, Graph):
        _check_loss(recipe.model, recipe.loss)
    if recipe.dp is not None:
        _check_private(recipe, recipe.dp)


def held_by(recipe: Recipe) -> Layout:
    """The tensors that a bundle holds; the constants of a loss have `loss.` before their names."""
    specs = [_spec(entry) for entry in recipe.model.named("param", "buffer", "const")]
    if isinstance(recipe.loss, Graph):
        specs += [_spec(entry, "loss.") for entry in recipe.loss.named("const")]
    return Layout(specs)


def trained_by(recipe: Recipe) -> Layout:
    """The tensors that travel each round: parameters and running statistics."""
    return Layout(_spec(entry) for entry in recipe.model.named("param", "buffer"))


def _spec(entry: Input, prefix: str = "") -> TensorSpec:
    return TensorSpec(prefix + entry.name, entry.dtype, tuple(size for size in entry.shape if isinstance(size, int)))


def _check_numbers(recipe: Recipe) -> None:
    for part in (recipe, recipe.optimizer, recipe.schedule):
        for field in part.__struct_fields__:
            value = getattr(part, field)
            if field in BOUNDS and not BOUNDS[field][0] <= value <= BOUNDS[field][1]:
                raise PlanRefused(f"{field} is {value}; it must be from {BOUNDS[field][0]} to {BOUNDS[field][1]}")
    if recipe.transform is not None:
        shift, scale = _row(recipe.transform.shift), _row(recipe.transform.scale)
        if not all(math.isfinite(n) for n in shift + scale) or 0 in scale or max(len(shift), len(scale)) > 65_536:
            raise PlanRefused("a transform takes finite numbers, at most 65536 of them, and no scale of 0")


def _check_private(recipe: Recipe, dp: Dp) -> None:
    for field, (least, most) in PRIVATE_BOUNDS.items():
        if not least <= getattr(dp, field) <= most:
            raise PlanRefused(f"{field} of dp is {getattr(dp, field)}; it must be from {least} to {most}")
    if recipe.model.named("buffer") or any(node.op in MIXES for node in recipe.model.nodes):
        raise PlanRefused(
            "dp hides single records, and running statistics and batch normalisation would tell of them beside the "
            "noise; use group or layer normalisation"
        )
    if any(entry.dtype != "F32" for entry in recipe.model.named("param")):
        raise PlanRefused("dp is reckoned in float32; all parameters must be F32")


def _row(found: float | tuple[float, ...]) -> tuple[float, ...]:
    return found if isinstance(found, tuple) else (found,)


def _check_loss(model: Graph, loss: Graph) -> None:
    _check_graph(loss, "loss")
    if loss.named("param", "buffer") or len(loss.outputs) != 1:
        raise PlanRefused("a loss has constants only, and one result")
    if len(loss.named("input")) != len(model.outputs) + 1:
        raise PlanRefused("a loss takes the model's outputs and the target")


def _check_graph(graph: Graph, where: str) -> None:
    if len(graph.nodes) > MAX_NODES:
        raise PlanRefused(f"{where}: {len(graph.nodes)} nodes; at most {MAX_NODES} are taken")
    names = [entry.name for entry in graph.inputs]
    if len(set(names)) != len(names):
        raise PlanRefused(f"{where}: two inputs share a name")
    for entry in graph.inputs:
        _check_input(entry, where)
    for number, node in enumerate(graph.nodes, start=len(graph.inputs)):
        try:
            _check_node(node, number, graph)
        except PlanRefused as error:
            raise PlanRefused(f"{where}, node {number} ({node.op[:60]!r}): {error.detail}") from None
    values = len(graph.inputs) + len(graph.nodes)
    if not 1 <= len(graph.outputs) <= MAX_ARGUMENTS or not all(0 <= ref < values for ref in graph.outputs):
        raise PlanRefused(f"{where}: outputs must be numbers of values, 1 to {MAX_ARGUMENTS} of them")


def _check_input(entry: Input, where: str) -> None:
    if not _NAME.fullmatch(entry.name):
        raise PlanRefused(f"{where}: an input cannot be named {entry.name[:40]!r}")
    if entry.dtype not in ITEM_BYTES:
        raise PlanRefused(f"{where}: {entry.name} has the unknown dtype {entry.dtype[:20]!r}")
    if entry.kind in ("param", "buffer") and entry.dtype not in FLOATS:
        raise PlanRefused(f"{where}: {entry.name} is trained, so it must be a float and not {entry.dtype}")
    sizes = entry.shape[1:] if entry.kind == "input" and entry.shape[:1] == (BATCH,) else entry.shape
    if len(sizes) > MAX_RANK or not all(isinstance(size, int) and 0 <= size < 1 << 32 for size in sizes):
        raise PlanRefused(f"{where}: {entry.name} has a shape out of bounds; only inputs may begin with {BATCH!r}")


def _check_node(node: Node, number: int, graph: Graph) -> None:
    if node.op not in ALLOWED and node.op != ITEM and node.op not in INTEGER_OPS:
        raise PlanRefused("this operation is not one that plans may use")
    if len(node.args) + len(node.kwargs) > MAX_ARGUMENTS:
        raise PlanRefused(f"more than {MAX_ARGUMENTS} arguments")
    for name, argument in node.kwargs.items():
        if not name.isidentifier() or not name.isascii() or len(name) > 40:
            raise PlanRefused("the name of an argument is not an identifier")
        _check_argument(argument, number, node.op)
    for argument in node.args:
        _check_argument(argument, number, node.op)
    if node.op in RUNNING_STATISTICS:
        _check_statistics(node, graph)
    if node.op == ITEM:
        _check_item(node, graph)


def _check_argument(argument: Any, number: int, op: str, depth: int = 0) -> None:
    match argument:
        case list():
            if depth == MAX_DEPTH or len(argument) > MAX_LIST:
                raise PlanRefused(f"a list deeper than {MAX_DEPTH} or longer than {MAX_LIST}")
            for part in argument:
                _check_argument(part, number, op, depth + 1)
        case dict():
            _check_object(argument, number)
        case str():
            if argument not in WORDS and not (op == EINSUM and _EQUATION.fullmatch(argument)):
                raise PlanRefused("text that is not one of the format's words")
        case _:
            _check_plain(argument)


def _check_plain(argument: Any) -> None:
    match argument:
        case None | bool():
            return
        case int() if -MAX_INTEGER <= argument < MAX_INTEGER:
            return
        case float() if math.isfinite(argument):
            return
    raise PlanRefused("a number beyond 64 bits, one that is not finite, or something that is no number")


def _check_object(argument: dict[str, Any], number: int) -> None:
    match argument:
        case {"ref": int() as ref, **rest} if not rest and not isinstance(ref, bool):
            if not 0 <= ref < number:
                raise PlanRefused(f"it refers to value {ref}, which is not there yet")
        case {"mode": [training, evaluation], **rest} if not rest:
            for value in (training, evaluation):
                if not isinstance(value, (bool, int, float)) or not -1e300 < value < 1e300:
                    raise PlanRefused("a mode switches between two plain numbers")
        case {"dtype": str() as dtype, **rest} if not rest:
            if dtype not in ITEM_BYTES:
                raise PlanRefused(f"the unknown dtype {dtype[:20]!r}")
        case {"device": "self", **rest} if not rest:
            return
        case _:
            raise PlanRefused("an object that is not ref, mode, dtype or device")


def refs(argument: Any) -> Iterator[int]:
    """The numbers of the values that an argument refers to."""
    if isinstance(argument, list):
        for part in argument:
            yield from refs(part)
    elif isinstance(argument, dict) and "ref" in argument:
        yield argument["ref"]


def _check_statistics(node: Node, graph: Graph) -> None:
    """These kernels write to their running statistics: never to data, never to anything but a buffer."""
    if node.kwargs:
        raise PlanRefused("arguments must be given by position here")
    for position in RUNNING_STATISTICS[node.op]:
        target = node.args[position] if position < len(node.args) else None
        if target is None:
            continue
        ref = next(refs(target), -1)
        if not 0 <= ref < len(graph.inputs) or graph.inputs[ref].kind != "buffer":
            raise PlanRefused("running statistics must be buffers of the plan")


def _check_item(node: Node, graph: Graph) -> None:
    match node.args, node.kwargs:
        case [{"ref": int() as ref}, int() as index], {}:
            if ref < len(graph.inputs) or not 0 <= index < MAX_LIST:
                raise PlanRefused("only operations have several results")
        case _:
            raise PlanRefused("an item is a value and a position")
