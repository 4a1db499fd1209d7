"""The job that sums: one accumulator, into which the models of a round are folded. Runs in a seat only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grid.learning.aggregation import WeightedMean, check_update
from grid.learning.tensors import read_header
from grid.worker.seat import Desk, Verb


def fold(desk: Desk, layout: bytes) -> Mapping[str, Verb]:
    """`begin` a sum anew, `check` and `fold` the model of the inbox, put the `mean` into the outbox."""
    found = read_header(layout)[0]
    inbox, outbox = desk.inbox[: found.size], desk.outbox[: found.size]
    mean = WeightedMean(found)

    def begin() -> dict[str, Any]:
        nonlocal mean
        mean = WeightedMean(found)
        return {}

    def check() -> dict[str, Any]:
        check_update(found, mean.spans, inbox)
        return {}

    def add(weight: float) -> dict[str, Any]:
        mean.add(inbox, weight)
        return {}

    def result() -> dict[str, Any]:
        mean.result_into(outbox)
        return {}

    return {"begin": begin, "check": check, "fold": add, "mean": result}
