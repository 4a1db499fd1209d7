from __future__ import annotations

from typing import Any

import pytest

from grid.learning.recipe import BATCH, Graph, Input, Node, Recipe, Transform
from grid.learning.validate import validate
from grid.wire.problems import PlanRefused

INPUTS = (
    Input("param", "w", "F32", (3, 4)),
    Input("buffer", "mean", "F32", (4,)),
    Input("input", "x", "F32", (BATCH, 4)),
)
LINEAR = Node("aten.linear.default", [{"ref": 2}, {"ref": 0}], {})


def recipe(*nodes: Node, inputs: tuple[Input, ...] = INPUTS, outputs: tuple[int, ...] = (3,), **rest: Any) -> Recipe:
    return Recipe(model=Graph(inputs, nodes or (LINEAR,), outputs), loss="mse", **rest) if "loss" not in rest else (
        Recipe(model=Graph(inputs, nodes or (LINEAR,), outputs), **rest)
    )  # fmt: skip


def relu(*args: Any, **kwargs: Any) -> Node:
    return Node("aten.relu.default", list(args), kwargs)


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


def test_a_plain_recipe_passes() -> None:
    validate(recipe())


@pytest.mark.parametrize(
    "op",
    [
        "aten.no_such.default",
        "aten.linear",
        "aten.empty.memory_format",
        "aten.empty_like.default",
        "aten.new_empty.default",
        "aten.resize_.default",
        "aten.empty_strided.default",
        "aten.new_empty_strided.default",
        "aten.as_strided.default",
        "aten.as_strided_.default",
        "aten.as_strided_scatter.default",
        "aten.set_data.default",
        "aten.set_.source_Tensor",
        "aten.from_file.default",
        "aten.copy_.default",
        "aten.relu_.default",
        "aten.index_put_.default",
        "aten.add_.Tensor",
        "aten.batch_norm_backward.default",
        "aten.native_batch_norm.out",
        "aten.to_sparse.default",
        "aten.quantize_per_tensor.default",
        "aten._to_copy.default",
        "aten._foreach_add.Scalar",
        "aten.to.device",
        "prims.add.default",
        "quantized.linear.default",
        "torch.os.mkdir",
        "__import__('os').system",
    ],
)
def test_an_operation_that_is_not_listed_is_refused(op: str) -> None:
    with pytest.raises(PlanRefused, match="not one that plans may use"):
        validate(recipe(Node(op, [{"ref": 2}], {})))


@pytest.mark.parametrize(
    "argument",
    [
        {"ref": 3},
        {"ref": 99},
        {"ref": -1},
        {"ref": True},
        {"ref": 1.0},
        {"ref": 0, "item": 1},
        {"mode": [1]},
        {"mode": [1, "x"]},
        {"mode": [1, float("inf")]},
        {"mode": [{"ref": 0}, 1]},
        {"dtype": "F8"},
        {"device": "cuda"},
        {"code": "1"},
        {},
        float("nan"),
        float("-inf"),
        1 << 64,
        "__import__('os')",
        "mean; import os",
        "a" * 1000,
        [0] * 2000,
        nested(9),
        b"bytes",
    ],
    ids=lambda argument: repr(argument)[:30],
)
def test_an_argument_that_is_none_of_the_format_is_refused(argument: Any) -> None:
    with pytest.raises(PlanRefused):
        validate(recipe(relu(argument)))
    with pytest.raises(PlanRefused):
        validate(recipe(relu([argument])))


def test_a_node_can_not_read_itself_or_what_comes_later() -> None:
    with pytest.raises(PlanRefused, match="value 4, which is not there yet"):
        validate(recipe(relu({"ref": 4}), relu({"ref": 3}), outputs=(4,)))


def test_a_plan_may_not_be_endless() -> None:
    with pytest.raises(PlanRefused, match="10001 nodes"):
        validate(recipe(*[relu({"ref": 2})] * 10_001))


def test_names_of_arguments_are_identifiers() -> None:
    for name in ("a b", "é", "x" * 100, "1"):
        with pytest.raises(PlanRefused, match="identifier"):
            validate(recipe(relu({"ref": 2}, **{name: 1})))


@pytest.mark.parametrize("target", [0, 2])
def test_batch_norm_writes_to_buffers_only(target: int) -> None:
    def norm(mean: int) -> Node:
        given: list[Any] = [{"ref": 2}, None, None, {"ref": mean}, None, True, 0.1, 1e-5, False]
        return Node("aten.batch_norm.default", given, {})

    validate(recipe(norm(1)))
    with pytest.raises(PlanRefused, match="buffers of the plan"):
        validate(recipe(norm(target)))
    with pytest.raises(PlanRefused, match="by position"):
        validate(recipe(Node("aten.batch_norm.default", [{"ref": 2}], {"running_mean": {"ref": 2}})))


@pytest.mark.parametrize("args", [[{"ref": 2}, 0], [{"ref": 3}, -1], [{"ref": 3}], [1, 0]])
def test_an_item_is_one_of_several_results(args: list[Any]) -> None:
    with pytest.raises(PlanRefused):
        validate(recipe(LINEAR, Node("item", args, {}), outputs=(4,)))


@pytest.mark.parametrize(
    "inputs",
    [
        (*INPUTS, INPUTS[0]),
        (*INPUTS, Input("const", "a b", "F32", ())),
        (*INPUTS, Input("const", "a", "F8", ())),
        (*INPUTS, Input("const", "a", "F32", (-1,))),
        (*INPUTS, Input("const", "a", "F32", (1,) * 9)),
        (*INPUTS, Input("const", "a", "F32", ("B",))),
        (*INPUTS, Input("input", "a", "F32", (2, "B"))),
        (*INPUTS, Input("param", "a", "I64", (2,))),
        INPUTS[1:],
        INPUTS[:2],
    ],
)
def test_an_input_out_of_bounds_is_refused(inputs: tuple[Input, ...]) -> None:
    with pytest.raises(PlanRefused):
        validate(recipe(Node("aten.ones.default", [[2]], {}), inputs=inputs, outputs=(len(inputs),)))


@pytest.mark.parametrize("outputs", [(), (9,), (-1,), (3,) * 33])
def test_outputs_are_values(outputs: tuple[int, ...]) -> None:
    with pytest.raises(PlanRefused, match="outputs"):
        validate(recipe(outputs=outputs))


def test_another_format_or_opset_is_refused() -> None:
    for rest in ({"format": "grid-plan/9"}, {"opset": 2}):
        with pytest.raises(PlanRefused, match="this node reads"):
            validate(recipe(**rest))


def test_a_loss_takes_outputs_and_target_and_gives_one_value() -> None:
    x, y = Input("input", "x", "F32", (BATCH, 3)), Input("input", "y", "F32", (BATCH, 3))
    difference = Node("aten.mse_loss.default", [{"ref": 0}, {"ref": 1}], {})
    validate(recipe(loss=Graph((x, y), (difference,), (2,))))
    for wrong in (
        Graph((x,), (relu({"ref": 0}),), (1,)),
        Graph((x, y), (difference,), (2, 2)),
        Graph((x, y, INPUTS[0]), (difference,), (3,)),
    ):
        with pytest.raises(PlanRefused):
            validate(recipe(loss=wrong))


def test_a_transform_is_finite_and_divides_by_something() -> None:
    validate(recipe(transform=Transform(shift=(1.0, 2.0), scale=16.0)))
    for wrong in (Transform(scale=0.0), Transform(shift=float("inf")), Transform(scale=(1.0, float("nan")))):
        with pytest.raises(PlanRefused, match="transform"):
            validate(recipe(transform=wrong))
