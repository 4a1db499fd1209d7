from __future__ import annotations

import pytest
import torch

from grid.learning.interpreter import resolve
from grid.learning.opset import ALLOWED, GROUPS, RUNNING_STATISTICS, SAFE_RESULTS
from grid.wire.problems import PlanRefused

UNFILLED = ("empty", "resize", "as_strided", "set_", "from_file", "foreach", "new_empty", "storage", "copy_")


def overload(name: str) -> torch._ops.OpOverload:
    _, packet, kind = name.split(".")
    return getattr(getattr(torch.ops.aten, packet), kind)  # type: ignore[no-any-return]


def test_each_operation_is_listed_once_with_a_reason() -> None:
    assert sum(map(len, GROUPS.values())) == len(ALLOWED)
    assert len(ALLOWED) < 256


@pytest.mark.parametrize("name", sorted(ALLOWED))
def test_an_allowed_operation_writes_to_nothing_and_fills_what_it_returns(name: str) -> None:
    found = overload(name)
    assert not found._schema.is_mutable
    assert not name.split(".")[1].startswith("_")
    assert not any(word in name for word in UNFILLED)


def test_running_statistics_are_where_the_rule_looks_for_them() -> None:
    for name, positions in RUNNING_STATISTICS.items():
        arguments = overload(name)._schema.arguments
        assert [arguments[position].name for position in positions] == ["running_mean", "running_var"]
    hidden = {name for name in ALLOWED for a in overload(name)._schema.arguments if a.name == "running_mean"}
    assert hidden == set(RUNNING_STATISTICS)


def test_results_that_a_kernel_leaves_unfilled_are_dropped() -> None:
    (name,) = SAFE_RESULTS
    result = resolve(name)(
        torch.ones(9, 2), torch.tensor([1, 2]), torch.tensor([0]), False, 0, False, None, False, None
    )
    assert len(result) == 1


def test_an_operation_of_another_torch_is_refused_with_its_version() -> None:
    with pytest.raises(PlanRefused, match="not an operation"):
        resolve("aten.empty.memory_format")
