"""Which plans keep examples apart, so that the gradients of a batch can be told apart without computing each one.

Book-keeping (`bookkeeping`) takes a whole batch at once, and is right only where no example's result depends on
another example. A plan comes from a stranger, so that is shown from its graph, operation by operation: here stands all
that is known to work row by row. What is not here is computed example by example (`per_example`), where nothing mixes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from grid.learning.opset import SIZE
from grid.learning.recipe import BATCH, Graph, Node
from grid.learning.validate import refs

PROBE = 2
"""Examples in the batch for which `layers` wants to know shapes."""

Shapes = Sequence[tuple[int, ...] | None]
"""The shape of each value of a graph, None for what is no tensor."""

LAYERS = {  # where weight and bias are among the arguments
    "aten.linear.default": (1, 2),
    "aten.conv1d.default": (1, 2),
    "aten.conv2d.default": (1, 2),
    "aten.layer_norm.default": (2, 3),
    "aten.group_norm.default": (2, 3),
}


class Layer(NamedTuple):
    """An operation with parameters: its place among the nodes, its name, and which parameters are its own."""

    place: int
    op: str
    weight: str | None
    bias: str | None


class Values(NamedTuple):
    """What is known of a graph's values: those with one row for each example, in order, and all shapes.

    `counts` are numbers that say how many examples there are.
    """

    rows: set[int]
    counts: set[int]
    shapes: Shapes

    def rank(self, argument: Any) -> int:
        """How many dimensions an argument has that is a tensor."""
        return len(self.shapes[_ref(argument)] or ())


def layers(graph: Graph, shapes: Shapes) -> list[Layer] | None:
    """The layers of a graph that keeps examples apart and reads each parameter once; None where that is not shown."""
    feeds = {ref for ref, entry in enumerate(graph.inputs) if entry.kind == "input"}
    params = {ref: entry.name for ref, entry in enumerate(graph.inputs) if entry.kind == "param"}
    values, found = Values({ref for ref in feeds if graph.inputs[ref].shape[:1] == (BATCH,)}, set(), shapes), []
    for number, node in enumerate(graph.nodes, start=len(graph.inputs)):
        read = {ref for argument in (*node.args, *node.kwargs.values()) for ref in refs(argument)}
        if node.op in LAYERS and read & params.keys():
            if not _is_layer(values, node):
                return None
            weight, bias = (params.get(ref) for ref in _own(node))
            found.append(Layer(number - len(graph.inputs), node.op, weight, bias))
            read -= params.keys() & {*_own(node)}
        if read & params.keys():
            return None
        if not _keep_apart(values, number, node, read):
            return None
    used = [name for layer in found for name in (layer.weight, layer.bias) if name]
    once = sorted(used) == sorted(params.values())
    return found if once and feeds <= values.rows and set(graph.outputs) <= values.rows else None


def _keep_apart(values: Values, number: int, node: Node, read: set[int]) -> bool:
    """Whether the node's result belongs to no example, or has a row for each of them; and note which."""
    if not read & (values.rows | values.counts):
        return True
    if node.op == SIZE:
        match node.args:
            case [{"ref": _}, int() as dim] if dim >= 0 and not node.kwargs:
                if dim == 0:
                    values.counts.add(number)
                return True
        return False
    if read & values.counts and node.op not in _RESHAPES:
        return False  # what depends on how many there are, depends on the others
    rule = _RULES.get(node.op)
    if rule is None or values.shapes[number] is None or not rule(values, node):
        return False
    if node.op in _RESHAPES and (values.shapes[number] or (0,))[0] != PROBE:
        return False
    values.rows.add(number)
    return True


# --- rules: whether the result of a node that reads rows has one row for each of them, in order --------------------


def _alone(values: Values, node: Node) -> bool:
    """Rows are the first argument, and nothing else is computed."""
    return bool(node.args) and _ref(node.args[0]) in values.rows and not _computed(node.args[1:], node.kwargs.values())


def _is_layer(values: Values, node: Node) -> bool:
    ranks = {"aten.conv1d.default": {3}, "aten.conv2d.default": {4}}.get(node.op, set(range(2, 16)))
    rest = [argument for place, argument in enumerate(node.args) if place not in (0, *LAYERS[node.op])]
    apart = _ref(node.args[0]) in values.rows and not _computed(rest, node.kwargs.values()) and not node.kwargs
    return apart and values.rank(node.args[0]) in ranks and not values.rows & {*_own(node)} and _normed(values, node)


def _normed(values: Values, node: Node) -> bool:
    """Whether a layer norm, if it is one, is about less than the whole batch."""
    return node.op != "aten.layer_norm.default" or len(node.args[1]) < values.rank(node.args[0])


def _pair(values: Values, node: Node) -> bool:
    """Two with rows, of the same rank, or one and something that is the same for each row."""
    if len(node.args) != 2 or _computed(node.kwargs.values()):
        return False
    left, right = node.args
    if {_ref(left), _ref(right)} <= values.rows:
        return values.rank(left) == values.rank(right)
    row, fixed = (left, right) if _ref(left) in values.rows else (right, left)
    shape = values.shapes[_ref(fixed)] if _ref(fixed) >= 0 else None
    return shape is None or len(shape) < values.rank(row) or (len(shape) == values.rank(row) and shape[0] == 1)


def _of_rank(rank: int) -> Rule:
    return lambda values, node: _alone(values, node) and values.rank(node.args[0]) == rank


def _inside(values: Values, node: Node) -> bool:
    """Along dimensions that are named, one or a list of them, none of which is the batch's."""
    dims = node.args[1] if len(node.args) > 1 else None
    listed = dims if isinstance(dims, list) else [dims]
    return _alone(values, node) and bool(listed) and all(_inner(dim, values.rank(node.args[0])) for dim in listed)


def _widened(values: Values, node: Node) -> bool:
    return _alone(values, node) and len(node.args) == 2 and _inner(node.args[1], values.rank(node.args[0]) + 1)


def _swapped(values: Values, node: Node) -> bool:
    inner = [_inner(dim, values.rank(node.args[0])) for dim in node.args[1:]] if _alone(values, node) else []
    return len(inner) == 2 and all(inner)


def _permuted(values: Values, node: Node) -> bool:
    return _alone(values, node) and len(node.args) == 2 and node.args[1][:1] == [0]


def _reshaped(values: Values, node: Node) -> bool:
    """The first size is the number of examples, or what is left where all others are plain numbers."""
    match node.args:
        case [rows, [first, *rest]] if _ref(rows) in values.rows and not node.kwargs:
            plain = all(isinstance(size, int) and not isinstance(size, bool) for size in rest)
            return plain and (_ref(first) in values.counts or (first == -1 and -1 not in rest))
    return False


def _attending(values: Values, node: Node) -> bool:
    """Queries, keys and values of the same examples, without a mask but the causal one."""
    three = [_ref(argument) for argument in node.args[:3]]
    ranks = {values.rank(argument) for argument in node.args[:3] if _ref(argument) >= 0}
    return {*three} <= values.rows and ranks == {4} and not _computed(node.args[3:], node.kwargs.values())


Rule = Callable[[Values, Node], bool]

_RESHAPES = {"aten.view.default", "aten.reshape.default"}
_ELEMENTWISE = """relu relu6 gelu silu sigmoid tanh elu selu leaky_relu softplus hardtanh hardswish hardsigmoid mish
    log_sigmoid celu hardshrink softshrink dropout neg abs exp expm1 log log1p sqrt square sin cos erf clamp clamp_min
    contiguous clone pow.Tensor_Scalar add.Scalar sub.Scalar mul.Scalar div.Scalar rsub.Scalar to.dtype"""


def _table(rules: Iterable[tuple[str, Rule]]) -> dict[str, Rule]:
    named = ((name, rule) for names, rule in rules for name in names.split())
    return {f"aten.{name}" if "." in name else f"aten.{name}.default": rule for name, rule in named}


_RULES = _table(
    [
        (_ELEMENTWISE, _alone),
        ("linear conv1d conv2d layer_norm group_norm", _is_layer),
        ("add.Tensor sub.Tensor mul.Tensor div.Tensor minimum maximum", _pair),
        ("max_pool1d avg_pool1d adaptive_avg_pool1d", _of_rank(3)),
        ("max_pool2d avg_pool2d adaptive_avg_pool2d", _of_rank(4)),
        ("softmax.int log_softmax.int sum.dim_IntList mean.dim", _inside),
        ("flatten.using_ints select.int slice.Tensor squeeze.dim", _inside),
        ("unsqueeze", _widened),
        ("transpose.int", _swapped),
        ("permute", _permuted),
        ("view reshape", _reshaped),
        ("scaled_dot_product_attention", _attending),
    ]
)


# --- words ---------------------------------------------------------------------------------------------------------


def _own(node: Node) -> list[int]:
    """The values that a layer takes for weight and bias; -1 for none."""
    return [_ref(node.args[place]) if place < len(node.args) else -1 for place in LAYERS[node.op]]


def _ref(argument: Any) -> int:
    """The value that an argument is; -1 where it is none."""
    return int(argument["ref"]) if isinstance(argument, dict) and "ref" in argument else -1


def _computed(*groups: Iterable[Any]) -> bool:
    """Whether any of these arguments is a value of the graph, or has one in it."""
    return any(True for group in groups for argument in group for _ in refs(argument))


def _inner(dim: Any, rank: int) -> bool:
    """Whether that is a dimension, and not the batch's."""
    return isinstance(dim, int) and not isinstance(dim, bool) and (dim if dim >= 0 else dim + rank) >= 1
