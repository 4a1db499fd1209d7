from __future__ import annotations

from typing import Any

import pytest
import torch

from grid.learning.interpreter import Program
from grid.learning.recipe import BATCH, Graph, Input, Node
from grid.wire.problems import PlanRefused

X = Input("input", "x", "F32", (BATCH, 3))


def ref(value: int) -> dict[str, int]:
    return {"ref": value}


def run(*nodes: tuple[Any, ...], outputs: tuple[int, ...] | None = None, training: bool = True) -> list[Any]:
    made = tuple(Node(op, args, rest[0] if rest else {}) for op, args, *rest in nodes)
    graph = Graph((X,), made, outputs or (len(nodes),))
    return Program(graph, training=training)([torch.arange(6.0).view(2, 3)])


def test_values_flow_from_node_to_node() -> None:
    (found,) = run(("aten.neg.default", [ref(0)]), ("aten.add.Tensor", [ref(0), ref(1)], {"alpha": 2}))
    assert found.tolist() == [[0, -1, -2], [-3, -4, -5]]


def test_a_value_lives_until_it_was_read_for_the_last_time() -> None:
    first = ("aten.mul.Scalar", [ref(0), 2.0])
    chain = [("aten.add.Scalar", [ref(n), 1.0]) for n in range(1, 6)]
    last = ("aten.cat.default", [[ref(1), ref(6), ref(0)], 1])
    (found,) = run(first, *chain, last)
    assert found[0].tolist() == [0, 2, 4, 5, 7, 9, 0, 1, 2]


def test_a_result_that_nobody_reads_does_no_harm() -> None:
    found, again = run(("aten.neg.default", [ref(0)]), ("aten.abs.default", [ref(0)]), outputs=(2, 0))
    assert found.equal(again)


def test_a_mode_switch_gives_one_number_in_training_and_another_in_evaluation() -> None:
    node = ("aten.mul.Scalar", [ref(0), {"mode": [2.0, 0.5]}])
    assert run(node)[0][0, 1] == 2
    assert run(node, training=False)[0][0, 1] == 0.5


def test_several_results_sizes_and_whole_numbers() -> None:
    (found,) = run(
        ("aten.split.Tensor", [ref(0), 1, 1]),
        ("item", [ref(1), 2]),
        ("aten.sym_size.int", [ref(0), 0]),
        ("int.mul", [ref(3), 2]),
        ("aten.expand.default", [ref(2), [-1, ref(4)]]),
    )
    assert found.tolist() == [[2] * 4, [5] * 4]


def test_dtype_and_device_are_the_runs_own() -> None:
    (found,) = run(("aten.ones.default", [[2]], {"dtype": {"dtype": "I64"}, "device": {"device": "self"}}))
    assert found.dtype == torch.int64


def test_sizes_do_not_grow_without_bound() -> None:
    squares = [("int.mul", [ref(n), ref(n)]) for n in range(1, 20)]
    with pytest.raises(PlanRefused, match="63 bits"):
        run(("aten.sym_size.int", [ref(0), 1]), *squares)
    with pytest.raises(PlanRefused, match="whole numbers"):
        run(("int.add", [1.5, 2]))


def test_nothing_but_what_is_listed_runs() -> None:
    with pytest.raises(PlanRefused):
        run(("aten.empty.memory_format", [[9]]))
