"""Books are kept only of graphs that keep examples apart; what looks harmless for one batch size need not be."""

from __future__ import annotations

from typing import Any

import pytest

from grid.learning.recipe import BATCH, Graph, Input, Node, Recipe
from grid.learning.rehearsal import shapes_of
from grid.learning.separable import PROBE, layers

X = {"ref": 3}
"""The input (B, 2, 6); a constant of shape (2, 1, 6) is value 2, one of (1, 2, 6) value 4, the first node value 5."""
FIRST = {"ref": 5}
SECOND = {"ref": 6}


def graph_of(*nodes: tuple[str, list[Any]], last: int = 6) -> Recipe:
    """These nodes, and a linear layer on the last of them."""
    inputs = (
        Input("param", "w", "F32", (3, last)),
        Input("param", "b", "F32", (3,)),
        Input("const", "c", "F32", (2, 1, 6)),
        Input("input", "x", "F32", (BATCH, 2, 6)),
        Input("const", "d", "F32", (1, 2, 6)),
    )
    linear = Node("aten.linear.default", [{"ref": 4 + len(nodes)} if nodes else X, {"ref": 0}, {"ref": 1}], {})
    made = (*[Node(f"aten.{op}", args, {}) for op, args in nodes], linear)
    return Recipe(model=Graph(inputs, made, (len(inputs) + len(nodes),)), loss="mse")


def kept(recipe: Recipe) -> bool:
    return layers(recipe.model, shapes_of(recipe, PROBE)) is not None


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [("relu.default", [X])],
        [("add.Tensor", [X, X])],
        [("mul.Tensor", [X, {"ref": 4}])],
        [("mul.Tensor", [{"ref": 4}, X])],
        [("softmax.int", [X, -1])],
        [("softmax.int", [X, 1])],
        [("select.int", [X, 1, 0])],
        [("flatten.using_ints", [X, 1]), ("view.default", [FIRST, [-1, 2, 6]])],
        [("sym_size.int", [X, 0]), ("view.default", [X, [FIRST, -1, 6]])],
        [("transpose.int", [X, 1, 2]), ("transpose.int", [FIRST, -1, -2])],
        [("permute.default", [X, [0, 2, 1]]), ("permute.default", [FIRST, [0, 2, 1]])],
        [("slice.Tensor", [X, 1, 0, 1])],
        [("unsqueeze.default", [X, 1]), ("squeeze.dim", [FIRST, 1])],
        [("layer_norm.default", [X, [2, 6], None, None])],
    ],
)
def test_what_works_row_by_row_is_kept_books_of(nodes: list[tuple[str, list[Any]]]) -> None:
    assert kept(graph_of(*nodes))


@pytest.mark.parametrize(
    "nodes",
    [
        [("flip.default", [X, [0]])],
        [("roll.default", [X, [1], [0]])],
        [("cumsum.default", [X, 0])],
        [("softmax.int", [X, 0])],
        [("softmax.int", [X, -3])],
        [("transpose.int", [X, 0, 1])],
        [("transpose.int", [X, 1, -3])],
        [("permute.default", [X, [1, 0, 2]])],
        [("mean.dim", [X, [0], True]), ("sub.Tensor", [X, FIRST])],
        [("mul.Tensor", [X, {"ref": 2}])],  # as many rows as the batch of the probe has, and no row's own
        [("view.default", [X, [2, -1, 6]])],  # the same
        [("view.default", [X, [-1, 6]])],
        [("view.default", [X, [PROBE, 2, 6]])],
        [("layer_norm.default", [X, [PROBE, 2, 6], None, None])],
        [("sym_size.int", [X, 0]), ("mul.Tensor", [X, FIRST])],
        [("sym_size.int", [X, -3]), ("view.default", [X, [FIRST, 2, 6]])],
        [("sym_numel.default", [X]), ("div.Tensor", [X, FIRST])],
        [("select.int", [X, 0, 0]), ("add.Tensor", [X, FIRST])],
        [("slice.Tensor", [X, 0, 0, 1]), ("add.Tensor", [X, FIRST])],
        [("einsum.default", ["bij,bij->bij", [X, X]])],
        [("mean.default", [X]), ("add.Tensor", [X, FIRST])],
    ],
)
def test_what_could_mix_examples_is_not(nodes: list[tuple[str, list[Any]]]) -> None:
    assert not kept(graph_of(*nodes))


def test_a_parameter_that_is_read_twice_or_not_at_all_is_not() -> None:
    recipe = graph_of()
    (linear,) = recipe.model.nodes
    again = Node("aten.add.Tensor", [{"ref": 5}, {"ref": 1}], {})

    for nodes, outputs in [((linear, again), (6,)), ((Node(linear.op, linear.args[:2], {}),), (5,))]:
        model = Graph(recipe.model.inputs, nodes, outputs)
        assert not kept(Recipe(model=model, loss="mse"))


def test_outputs_that_are_no_rows_are_not() -> None:
    recipe = graph_of(("relu.default", [X]))
    nodes = (*recipe.model.nodes, Node("aten.sum.default", [{"ref": 6}], {}))

    assert not kept(Recipe(model=Graph(recipe.model.inputs, nodes, (7,)), loss="mse"))
