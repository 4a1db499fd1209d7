"""The job that makes one model of many: whatever the strategy, a round at a time. Runs in a seat only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from grid.faults import point
from grid.learning.aggregation import AddScaled, add_scaled
from grid.learning.folding import BUDGET, Folding, Place
from grid.learning.layouts import state_layout, update_layout
from grid.learning.robust import UpdatesInMemory
from grid.learning.strategy import read_strategy
from grid.learning.tensors import read_header
from grid.learning.weighing import Told, Weighing
from grid.worker.seat import Desk, Verb
from grid.worker.spill import Spill, warm_up

__all__ = ["fold", "warm_up"]


def fold(
    desk: Desk,
    layout: bytes,
    strategy: Mapping[str, Any] | str = "fedavg",
    statistics: Sequence[str] = (),
    budget: int = BUDGET,
    *,
    add_scaled: AddScaled = add_scaled,
) -> Mapping[str, Verb]:
    """`begin` a round anew, `check` and `fold` the update of the inbox, put the `result` into the outbox."""
    plan, rule = read_header(layout)[0], read_strategy(strategy)
    size = update_layout(plan, rule, statistics).size
    kept = UpdatesInMemory() if desk.spill is None else Spill(desk.spill, size)
    inbox, state = desk.inbox[:size], desk.state[: state_layout(plan, rule, statistics).size]
    folding = Folding(rule, plan, Place(desk.outbox[:size], state, kept, budget, add_scaled), statistics)

    def begin(current: Literal["inbox", "outbox"] = "outbox", population: int = 0) -> dict[str, Any]:
        folding.begin(inbox if current == "inbox" else None, population)
        return {}

    def check(
        weight: float = 1.0, loss: float | None = None, normaliser: float | None = None, staleness: int = 0
    ) -> dict[str, Any]:
        point("worker-check")
        folding.check(inbox)
        Weighing(rule).weigh(Told(weight, loss, normaliser, staleness))  # would the sum believe these numbers?
        return {}

    def add(
        weight: float, loss: float | None = None, normaliser: float | None = None, staleness: int = 0
    ) -> dict[str, Any]:
        point("worker-fold")
        folding.fold(inbox, Told(weight, loss, normaliser, staleness))
        return {}

    def result() -> dict[str, Any]:
        point("worker-result")
        folding.result()
        return {}

    return {"begin": begin, "check": check, "fold": add, "result": result}
