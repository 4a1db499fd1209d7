"""Reports of one model, added up."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.node.tally import Tally

REPORTS = st.dictionaries(st.text(max_size=3), st.tuples(st.floats(-1e6, 1e6), st.integers(0, 1000)), max_size=8)


@given(REPORTS)
def test_the_mean_is_weighted_by_examples(reports: dict[str, tuple[float, int]]) -> None:
    tally = Tally()
    for node, (loss, examples) in reports.items():
        tally.add(node, {"loss": loss}, examples)

    total = sum(examples for _, examples in reports.values())
    assert tally.examples == total
    assert tally.heard == set(reports)
    if total:
        expected = sum(loss * examples for loss, examples in reports.values()) / total
        assert tally.means()["loss"] == pytest.approx(expected, rel=1e-9, abs=1e-6)
    else:
        assert tally.means() == {}


def test_a_metric_that_some_leave_out_is_the_mean_of_the_others() -> None:
    tally = Tally()
    tally.add("ann", {"loss": 1.0, "accuracy": 0.5}, 10)
    tally.add("bob", {"loss": 2.0}, 30)

    assert tally.means() == {"loss": 1.75, "accuracy": 0.5}


def test_a_node_has_one_say() -> None:
    tally = Tally()
    tally.add("ann", {"loss": 1.0}, 10)
    tally.add("ann", {"loss": 9.0}, 10**9)
    tally.pass_over("bob")
    tally.add("bob", {"loss": 9.0}, 10)

    assert (tally.means(), tally.examples, tally.nodes) == ({"loss": 1.0}, 10, {"ann": (10, {"loss": 1.0})})


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_one_number_that_is_none_does_not_spoil_the_mean_of_all(poison: float) -> None:
    tally = Tally()
    tally.add("ann", {"loss": 1.0}, 10)
    tally.add("eve", {"loss": poison, "accuracy": 0.5}, 10)

    assert tally.means() == {"loss": 1.0, "accuracy": 0.5}
