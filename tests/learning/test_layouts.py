from __future__ import annotations

from grid.learning.layouts import (
    Role,
    first_model,
    model_layout,
    own_layout,
    pick,
    roles,
    state_layout,
    statistics_of,
    update_layout,
)
from grid.learning.recipe import BATCH, Graph, Input, Node, Recipe
from grid.learning.strategy import PRESETS
from grid.learning.tensors import Layout, TensorSpec

LAYOUT = Layout(
    [
        TensorSpec("weight", "F32", (2, 3)),
        TensorSpec("mean", "F32", (3,)),
        TensorSpec("exact", "F64", (2,)),
        TensorSpec("half", "BF16", (4,)),
        TensorSpec("seen", "I64", (1,)),
    ]
)
STATISTICS = ("mean", "seen")


def names(layout: Layout) -> list[str]:
    return [spec.name for spec in layout.specs]


def test_most_strategies_send_the_plans_tensors_and_nothing_else() -> None:
    for name in PRESETS.keys() - {"scaffold"}:
        assert model_layout(LAYOUT, PRESETS[name], STATISTICS) == LAYOUT
        assert update_layout(LAYOUT, PRESETS[name], STATISTICS) == LAYOUT
        assert own_layout(LAYOUT, PRESETS[name], STATISTICS).size == 0


def test_scaffold_sends_a_control_variate_for_each_parameter() -> None:
    down = model_layout(LAYOUT, PRESETS["scaffold"], STATISTICS)
    own = own_layout(LAYOUT, PRESETS["scaffold"], STATISTICS)

    assert set(names(own)) == {"control:weight", "control:exact", "control:half"}
    assert own.by_name["control:half"].spec == TensorSpec("control:half", "F32", (4,))
    assert set(names(down)) == {*names(LAYOUT), *names(own)}
    assert update_layout(LAYOUT, PRESETS["scaffold"], STATISTICS) == down


def test_server_optimizers_keep_averages_and_how_many_steps_they_took() -> None:
    momentum = state_layout(LAYOUT, PRESETS["fedavgm"], STATISTICS)
    adam = state_layout(LAYOUT, PRESETS["fedadam"], STATISTICS)

    assert state_layout(LAYOUT, PRESETS["fedavg"], STATISTICS).size == 0
    assert set(names(momentum)) == {"steps", "momentum:weight", "momentum:exact", "momentum:half"}
    assert adam.size == 2 * momentum.size - 8


def test_a_checkpoint_begins_with_zeros_for_what_a_strategy_adds_and_gives_the_model_back() -> None:
    layout = model_layout(LAYOUT, PRESETS["scaffold"], STATISTICS)
    values = {slot.spec.name: bytes([number + 1]) * slot.spec.size for number, slot in enumerate(LAYOUT.slots)}
    data = memoryview(b"".join(first_model(layout, values)))

    assert len(data) == layout.size
    assert b"".join(pick(LAYOUT, layout, data)) == b"".join(values[spec.name] for spec in LAYOUT.specs)
    slot = layout.by_name["control:weight"]
    assert not any(data[slot.begin : slot.end])


def test_whole_numbers_and_running_statistics_are_no_parameters() -> None:
    found = roles(model_layout(LAYOUT, PRESETS["scaffold"], STATISTICS), STATISTICS)

    assert found["seen"] is found["mean"] is Role.STATISTIC
    assert found["weight"] is found["half"] is Role.PARAMETER
    assert found["control:weight"] is Role.CONTROL


def test_the_statistics_of_a_plan_are_its_buffers() -> None:
    graph = Graph(
        (
            Input("param", "w", "F32", (3,)),
            Input("buffer", "mean", "F32", (3,)),
            Input("input", "x", "F32", (BATCH, 3)),
        ),
        (Node("aten.mul.Tensor", [{"ref": 2}, {"ref": 0}], {}),),
        (3,),
    )

    assert statistics_of(Recipe(model=graph, loss="mse")) == ("mean",)
