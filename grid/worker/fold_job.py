"""The job that makes one model of many: whatever the strategy, a round at a time. Runs in a seat only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from grid.faults import point
from grid.learning.aggregation import AddScaled, add_scaled
from grid.learning.arrays import views
from grid.learning.broadcasts import Rounding
from grid.learning.codec import Codec
from grid.learning.folding import BUDGET, Folding, Place
from grid.learning.layouts import masked_numbers, state_layout, update_layout, upload_layout
from grid.learning.masked import RingSum, Vectors
from grid.learning.robust import UpdatesInMemory
from grid.learning.strategy import Exact, Strategy, least_updates, read_strategy
from grid.learning.tensors import Layout, read_header
from grid.learning.weighing import Told, Weighing
from grid.wire.problems import StrategyRefused, UpdateRefused
from grid.worker.analysis_job import SumOfParts
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
    """`begin` a round anew, `check` and `fold` the update of the inbox, put the `result` into the outbox.

    Where the inbox holds how far an update is `apart` from the model that was given as its `origin`, it becomes whole.
    `round` makes of a model in the inbox the form in which it travels, there.
    """
    plan, rule = read_header(layout)[0], read_strategy(strategy)
    if rule.analyses:
        return SumOfParts(desk, layout, rule).verbs()
    size = update_layout(plan, rule, statistics).size
    kept = UpdatesInMemory() if desk.spill is None else Spill(desk.spill, size)
    inbox, state = desk.inbox[:size], desk.state[: state_layout(plan, rule, statistics).size]
    folding = Folding(rule, plan, Place(desk.outbox[:size], state, kept, budget, add_scaled), statistics)

    if rule.masked:
        return MaskedFold(rule, plan, tuple(statistics), desk, folding).verbs()
    arrivals = Arrivals(rule, plan, tuple(statistics), desk.inbox)

    def begin(current: Literal["inbox", "outbox"] = "outbox", population: int = 0) -> dict[str, Any]:
        folding.begin(inbox if current == "inbox" else None, population)
        arrivals.begin(folding.current)
        return {}

    def check(
        weight: float = 1.0,
        loss: float | None = None,
        normaliser: float | None = None,
        staleness: int = 0,
        base: str = "",
    ) -> dict[str, Any]:
        point("worker-check")
        folding.check(arrivals.take(base))
        Weighing(rule).weigh(Told(weight, loss, normaliser, staleness))  # would the sum believe these numbers?
        return {}

    def add(
        weight: float,
        loss: float | None = None,
        normaliser: float | None = None,
        staleness: int = 0,
        base: str = "",
    ) -> dict[str, Any]:
        point("worker-fold")
        folding.fold(arrivals.update, Told(weight, loss, normaliser, staleness))
        return {}

    def result() -> dict[str, Any]:
        point("worker-result")
        folding.result()
        return {}

    def rounded() -> dict[str, Any]:
        Rounding(rule, plan, tuple(statistics)).shrink(inbox)
        return {}

    origin = Origin(plan, inbox)
    verbs: dict[str, Verb] = {"begin": begin, "check": check, "fold": add, "result": result, "round": rounded}
    return verbs | {"origin": origin.keep, "apart": origin.apply}


class Origin:
    """Updates that say how far a model is from the one that it began with: made whole, one at a time."""

    def __init__(self, plan: Layout, inbox: memoryview) -> None:
        self._plan, self._inbox, self._kept = plan, inbox[: plan.size], memoryview(bytearray())

    def keep(self) -> dict[str, Any]:
        """The model in the inbox is the one that the next updates began with."""
        if not self._kept:
            self._kept = memoryview(bytearray(self._plan.size))
        self._kept[:] = self._inbox
        return {}

    def apply(self) -> dict[str, Any]:
        """In the inbox is the model that was kept less the one that was learned: the latter takes its place."""
        before, apart = views(self._plan, self._kept), views(self._plan, self._inbox)
        for name, array in apart.items():
            np.subtract(before[name], array, out=array)
        return {}


class Arrivals:
    """Updates as they come: those that began with another model are refused where that matters, those that are
    encoded are decoded on top of the one that was sent."""

    def __init__(self, rule: Strategy, plan: Layout, statistics: tuple[str, ...], inbox: memoryview) -> None:
        size = update_layout(plan, rule, statistics).size
        self._codec = None if rule.upload == Exact() else Codec(rule, plan, statistics)
        self._names_base, self._rounding = rule.names_base, Rounding(rule, plan, statistics)
        self._came = inbox[: upload_layout(plan, rule, statistics).size]
        self._current, self._digest = memoryview(b""), ""
        self.update = inbox[:size] if self._codec is None else memoryview(bytearray(size))

    def begin(self, current: memoryview) -> None:
        """A round begins with a model."""
        if self._names_base:
            sent = self._rounding.received(current)
            self._digest = sha256(sent).hexdigest()
            self._current = sent if self._codec is not None else memoryview(b"")

    def take(self, base: str) -> memoryview:
        """The update in the inbox, decoded. `base`: SHA-256 of the model that its sender began with.

        Raises:
            UpdateRefused: that is not the round's, or it is none that an encoder writes.
        """
        if self._names_base and base != self._digest:
            raise UpdateRefused("it says what was learned on top of another model than this round's")
        if self._codec is not None:
            self._codec.decode(self._came, self._current, self.update)
        return self.update


class MaskedFold:
    """The verbs of a round whose updates are masked: summed as they are, and a model once the masks are lifted."""

    def __init__(self, rule: Strategy, plan: Layout, statistics: tuple[str, ...], desk: Desk, folding: Folding) -> None:
        self._rule, self._plan, self._statistics, self._folding = rule, plan, statistics, folding
        self._inbox, self._rounding = desk.inbox, Rounding(rule, plan, statistics)
        self._size = update_layout(plan, rule, statistics).size
        self._sum = RingSum(masked_numbers(plan, rule, statistics))
        self._base = ""

    def verbs(self) -> Mapping[str, Verb]:
        """What the seat answers to."""
        verbs: dict[str, Verb] = {"begin": self.begin, "check": self.check, "fold": self.fold}
        return verbs | {"result": self.result, "round": self.round}

    def begin(self, current: Literal["inbox", "outbox"] = "outbox", population: int = 0) -> dict[str, Any]:
        """A new round; the SHA-256 of the model that its participants are sent is its `base`."""
        self._folding.begin(self._inbox[: self._size] if current == "inbox" else None, population)
        self._sum.begin()
        self._base = sha256(self._rounding.received(self._folding.current)).hexdigest()
        return {"base": self._base}

    def check(self, base: str = "", **_: Any) -> dict[str, Any]:
        """Nothing can be seen of one vector but on which model it was learned."""
        point("worker-check")
        if base != self._base:
            raise UpdateRefused("it says what was learned on top of another model than this round's")
        return {}

    def fold(self, **_: Any) -> dict[str, Any]:
        """Add the vector in the inbox."""
        point("worker-fold")
        self._sum.add(self._inbox)
        return {}

    def result(
        self,
        added: Sequence[bytes] = (),
        subtracted: Sequence[bytes] = (),
        parties: int = 1,
        metrics: int = 0,
        clip: float = 0.0,
    ) -> dict[str, Any]:
        """Lift the masks and make the next model; what the nodes said of themselves, as `masked.Summed`."""
        point("worker-result")
        if self._sum.count < (least := least_updates(self._rule)):
            raise StrategyRefused(f"{self._sum.count} updates; a secure sum needs at least {least}")
        vectors = Vectors(self._rule, self._plan, self._statistics, metrics, parties, clip)
        update = memoryview(bytearray(self._size))
        total = self._sum.lifted(added, subtracted)
        summed = vectors.unfold(total, self._sum.count, self._folding.current, update)
        self._folding.check(update)
        self._folding.fold(update, Told(summed.examples))
        self._folding.result()
        return {"summed": list(summed)}

    def round(self) -> dict[str, Any]:
        """A model in the inbox takes the form in which it travels, there."""
        self._rounding.shrink(self._inbox[: self._size])
        return {}
