from __future__ import annotations

from typing import Any

import pytest

from grid.learning.plan import Plan
from grid.learning.recipe import BATCH, Graph, Input, Node, Recipe
from grid.learning.rehearsal import rehearse
from grid.wire.problems import PlanRefused

PLAN = Plan.mlp([4, 8, 3])
W, X = Input("param", "w", "F32", (3, 4)), Input("input", "x", "F32", (BATCH, 4))
PRODUCT = Node("aten.linear.default", [{"ref": 1}, {"ref": 0}], {})


def recipe(*nodes: Node) -> Recipe:
    return Recipe(model=Graph((W, X), nodes, (len(nodes) + 1,)), loss="mse")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_the_estimate_counts_model_gradients_and_results(device: str) -> None:
    found = rehearse(PLAN.recipe, 16, 1 << 20, device=device)

    assert found.outputs == ((16, 3),)
    assert found.memory == 2 * PLAN.layout.size + 2 * 16 * 4 * (8 + 8 + 3)


def node(op: str, *args: Any) -> Node:
    return Node(op, list(args), {})


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize(
    "nodes",
    [
        (node("aten.zeros.default", [10**13]), PRODUCT),
        (node("aten.zeros.default", [1 << 40, 1 << 40]), PRODUCT),
        (node("aten.expand.default", {"ref": 0}, [1 << 30, 3, 4]), node("aten.neg.default", {"ref": 2})),
        (node("aten.arange.default", 1 << 40), PRODUCT),
        (node("aten.ones.default", [4096, 4096]), PRODUCT),
        (node("aten.repeat.default", {"ref": 0}, [1 << 40, 1]), PRODUCT),
        (node("aten.repeat_interleave.self_int", {"ref": 0}, 1 << 40, 0), PRODUCT),
        (node("aten.linspace.default", 0, 1, 1 << 40), PRODUCT),
        (node("aten.eye.default", 1 << 22), PRODUCT),
    ],
    ids=["zeros", "overflow", "expand", "arange", "above the limit", "repeat", "interleave", "linspace", "eye"],
)
def test_more_memory_than_granted_is_refused(nodes: tuple[Node, ...], device: str) -> None:
    if device == "cpu" and nodes[0].op == "aten.expand.default":
        pytest.skip("would allocate; in a worker its address space is bounded")
    with pytest.raises(PlanRefused):
        rehearse(recipe(*nodes), 8, 1 << 24, device=device)


@pytest.mark.parametrize(
    ("nodes", "word"),
    [
        ((node("aten.mm.default", {"ref": 1}, {"ref": 0}),), "shapes"),
        ((node("aten.linear.default"),), "shapes"),
        ((node("aten.relu.default", "floor"),), "shapes"),
        ((node("aten.relu.default", {"ref": 1}),), "depend on any parameter"),
        ((node("aten.sym_size.int", {"ref": 0}, 0),), "not a tensor"),
        ((node("int.floordiv", 1, 0), PRODUCT), "shapes"),
    ],
)
def test_a_plan_that_cannot_run_is_refused_before_data_is_read(nodes: tuple[Node, ...], word: str) -> None:
    with pytest.raises(PlanRefused, match=word):
        rehearse(recipe(*nodes), 8, 1 << 24, device="cpu")
