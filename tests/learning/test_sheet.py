from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence

import pytest

from grid.learning.plan import Plan
from grid.learning.recipe import Graph, Recipe
from grid.learning.sheet import _ladder, _numbers, sheet

PLAN = Plan.mlp([64, 128, 10], optimizer="adam", epochs=3)


def with_values(plan: Plan, **numbers: Sequence[float]) -> Plan:
    """The plan with other first values; `weight` is 0.weight, `bias` 0.bias."""
    changed = {f"0.{name}": struct.pack(f"<{len(values)}f", *values) for name, values in numbers.items()}
    return Plan(plan.recipe, {**plan.values, **changed})


def test_a_sheet_says_what_a_plan_does() -> None:
    found = sheet(PLAN, 1000)

    assert found.inputs == ("features ['B', 64] F32",)
    assert [(layer.operation, layer.parameters) for layer in found.layers] == [("linear", 8320), ("linear", 1290)]
    assert found.operations == {"linear": 2, "relu": 1}
    assert (found.parameters, found.per_record, found.bytes_per_round) == (9610, 9.61, 4 * 9610)
    assert (found.loss, found.steps) == ("cross_entropy", 96)
    assert found.optimizer.startswith("adam: lr 0.001")
    assert found.warnings == ()


@pytest.mark.parametrize(
    "plan",
    [
        PLAN,
        Plan.linear(30, 2),
        Plan.mlp([784, 512, 256, 10], batch=32),
        Plan.cnn((1, 28, 28), 10),
        Plan.cnn((3, 32, 32), 100, channels=(32, 64, 128)),
        with_values(Plan.linear(8, 4), weight=[0.0] * 32, bias=[0.0] * 4),
        Plan.mlp([1, 64, 1], loss="mse"),
    ],
    ids=lambda plan: f"{plan.parameters} parameters",
)
def test_ordinary_plans_raise_no_warning(plan: Plan) -> None:
    assert sheet(plan, 2000).warnings == ()
    assert sheet(plan).warnings == ()


@pytest.mark.parametrize(
    ("plan", "examples", "word"),
    [
        (PLAN.with_(batch=4), None, "fewer than 8"),
        (PLAN.with_(minimum_examples=5), None, "train on 5 examples"),
        (PLAN, 20, "20 records are here"),
        (PLAN.with_(steps=1), None, "a single batch"),
        (PLAN.with_(epochs=1, batch=512), 512, "a single batch"),
        (Plan.mlp([10, 2048, 2], batch=64), None, "2048 outputs for batches of 64"),
        (Plan.mlp([1000, 512, 10]), 200, "parameters for each record"),
        (with_values(PLAN, weight=[1.0] * 64 * 128), None, "128 rows of 128 are multiples"),
        (with_values(PLAN, weight=[n * m / 64 for n in range(1, 129) for m in range(64)]), None, "multiples"),
        (with_values(PLAN, bias=[-n / 128 for n in range(128)]), None, "a ladder"),
    ],
)  # fmt: skip
def test_what_looks_like_a_way_to_carry_records_home_is_a_warning(plan: Plan, examples: int, word: str) -> None:
    (warning,) = [text for text in sheet(plan, examples).warnings if word in text]
    assert warning


def test_an_imprint_hidden_in_a_constant_is_seen() -> None:
    recipe = PLAN.recipe
    inputs = tuple(
        type(entry)("const", entry.name, entry.dtype, entry.shape) if entry.name == "0.weight" else entry
        for entry in recipe.model.inputs
    )
    hidden = Recipe(model=Graph(inputs, recipe.model.nodes, recipe.model.outputs), loss=recipe.loss)
    plan = Plan(hidden, with_values(PLAN, weight=[1.0] * 64 * 128).values)
    assert any("0.weight: 128 rows" in text for text in sheet(plan).warnings)


def test_a_sheet_is_a_table_for_the_eye() -> None:
    text = repr(sheet(PLAN.with_(batch=2), 1000))
    assert "linear [128, 64] [128], 8,320 parameters" in text
    assert "WARNING" in text
    assert "<th>parameters</th><td>9,610</td>" in sheet(PLAN)._repr_html_()


def test_half_precision_is_read_as_well() -> None:
    half = struct.pack("<9e", *range(9))
    brain = b"".join(struct.pack("<f", n)[2:] for n in range(9))
    assert _ladder(_numbers("F16", half))
    assert _numbers("BF16", brain) == tuple(map(float, range(9)))


def test_a_daemon_draws_a_sheet_without_numpy_or_torch() -> None:
    code = "import sys; from grid.learning import plan, sheet; repr(sheet.sheet(plan.Plan.mlp([4, 2]), 9)); "
    code += "assert not {'numpy', 'torch'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)
