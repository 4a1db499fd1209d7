"""The jobs of an analysis: a node's part of it, and the sum of all parts. Run in a seat only, with numpy.

They answer to the verbs of training and folding, so that rounds of an analysis are rounds like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Literal

import numpy as np

from grid.faults import point
from grid.learning.analytics import Known, Vector, part, step
from grid.learning.arrays import views
from grid.learning.disclosure import check_disclosure
from grid.learning.layouts import model_layout, update_layout, upload_layout
from grid.learning.limbs import from_limbs, to_limbs
from grid.learning.masked import RingSum
from grid.learning.masking import mask as add_masks
from grid.learning.questions import Evaluate, reads
from grid.learning.strategy import Strategy, least_updates, read_strategy
from grid.learning.study import Study, read_question
from grid.learning.tensors import Layout, header_bytes, read_header
from grid.wire.problems import QuestionRefused, StrategyRefused, UpdateRefused
from grid.worker.seat import Desk, Verb


def analyse(
    desk: Desk, columns: Mapping[str, Sequence[Any]], strategy: Mapping[str, Any], least_rows: int
) -> Mapping[str, Verb]:
    """Read the question and its columns; then `prepare`, and for each round `receive`, `fit` and `mask`.

    `columns` and `least_rows` as in `port.AnalyseJob`.

    Raises:
        PlanRefused, QuestionRefused: it cannot be asked, or not of this data.
    """
    study, chosen = Study.from_bundle(desk.files["bundle"]), read_strategy(strategy)
    layout, _, offset = read_header(desk.files["tensors"], total=len(desk.files["tensors"]))
    arrays = views(layout, desk.files["tensors"][offset:])
    question = study.question
    if isinstance(question, Evaluate):
        raise QuestionRefused("how a plan does is not to be read from columns")
    rows = {name: _column(name, arrays, *columns[name]) for name in reads(question)}

    def own(known: Known) -> Vector:
        mine = part(question, known, rows)
        check_disclosure(question, rows, mine, least_rows, chosen.masked)
        return mine

    return Answering(desk, study, chosen, len(rows[reads(question)[0]]), own).verbs()


class Answering:
    """The verbs of training for a node's part in a study: `own` computes it from what is known, of `count` rows."""

    def __init__(
        self, desk: Desk, study: Study, strategy: Strategy, count: int, own: Callable[[Known], Vector]
    ) -> None:
        self._study, self._strategy, self._count, self._own = study, strategy, count, own
        known = model_layout(study.layout, strategy)
        self._inbox = desk.inbox[: known.size]
        self._known = views(known, self._inbox)
        self._outbox, self._part = desk.outbox, np.zeros(0)
        self._base = ""

    def verbs(self) -> Mapping[str, Verb]:
        """What the seat answers to."""
        verbs: dict[str, Verb] = {"prepare": self.prepare, "receive": self.receive, "fit": self.fit}
        return verbs | {"evaluate": self.evaluate, "mask": self.mask}

    def prepare(self) -> dict[str, Any]:
        """What is about to be asked: how it is written, and of how many rows."""
        digest = self._study.digest
        header = header_bytes(self._study.layout, self._study.metadata)
        return {"layout": header, "digest": digest, "examples": self._count, "held_out": 0, "estimate": 0}

    def receive(self) -> dict[str, Any]:
        """What is known came into the inbox; its SHA-256 is its `base`, where that is asked for."""
        self._base = sha256(self._inbox).hexdigest() if self._strategy.names_base else ""
        return {"base": self._base} if self._base else {}

    def fit(self, **_: Any) -> dict[str, Any]:
        """This node's part of what is known, in the outbox. Raises QuestionRefused where it may not leave the node."""
        point("worker-before-fit")
        self._part = self._own(self._known)
        if not self._strategy.masked:
            self._outbox[: self._part.nbytes] = self._part.view(np.uint8).data
        point("worker-after-fit")
        done = {"examples": self._count, "steps": 1, "metrics": {}, "numbers": {}}
        return done | ({"base": self._base} if self._base else {})

    def mask(self, added: list[bytes], subtracted: list[bytes], **_: Any) -> dict[str, Any]:
        """The part that was computed last, in limbs under masks of these seeds (16 bytes each), in the outbox."""
        vector = to_limbs(self._part)
        add_masks(vector, added, subtracted)
        self._outbox[: vector.nbytes] = vector.view(np.uint8).data
        return {}

    def evaluate(self, **_: Any) -> dict[str, Any]:
        """Nothing is measured."""
        return {"examples": 0, "metrics": {}}


class SumOfParts:
    """The verbs of folding for an analysis: parts are added, and the sum takes what is known a step further.

    `result` says whether that was the last one. See `port.FoldJob`.
    """

    def __init__(self, desk: Desk, header: bytes, strategy: Strategy) -> None:
        layout, metadata, _ = read_header(header)
        self._question, self._strategy = read_question(metadata), strategy
        known = model_layout(layout, strategy)
        self._current = memoryview(bytearray(known.size))
        self._inbox, self._outbox, self._size = desk.inbox, desk.outbox[: known.size], known.size
        self._known, self._next = views(known, self._current), views(known, self._outbox)
        self._length = _numbers(update_layout(layout, strategy))
        self._ring = RingSum(_numbers(upload_layout(layout, strategy)) if strategy.masked else 0)
        self._total, self._count, self._base = np.zeros(self._length), 0, ""

    def verbs(self) -> Mapping[str, Verb]:
        """What the seat answers to."""
        verbs: dict[str, Verb] = {"begin": self.begin, "check": self.check, "fold": self.fold}
        return verbs | {"result": self.result}

    def begin(self, current: Literal["inbox", "outbox"] = "outbox", population: int = 0) -> dict[str, Any]:
        """A new round, of what is known; its SHA-256 is its `base`."""
        self._current[:] = self._inbox[: self._size] if current == "inbox" else self._outbox
        self._total[:], self._count = 0, 0
        self._ring.begin()
        self._base = sha256(self._current).hexdigest()
        return {"base": self._base}

    def check(self, base: str = "", **_: Any) -> dict[str, Any]:
        """Of a part that came as it is, that all its numbers are finite; of one under masks, on what it builds."""
        point("worker-check")
        if self._strategy.masked and base != self._base:
            raise UpdateRefused("it answers on top of something else than this round's")
        if not self._strategy.masked and not np.isfinite(self._came()).all():
            raise UpdateRefused("it holds a number that is not finite")
        return {}

    def fold(self, **_: Any) -> dict[str, Any]:
        """Add the part in the inbox."""
        point("worker-fold")
        self._count += 1
        if self._strategy.masked:
            self._ring.add(self._inbox)
        else:
            self._total += self._came()
        return {}

    def result(
        self, added: Sequence[bytes] = (), subtracted: Sequence[bytes] = (), parties: int = 1, metrics: int = 0
    ) -> dict[str, Any]:
        """What is known next, in the outbox; whether that is all (`done`), and of how many rows (`summed`).

        Raises:
            NotEstimable: there is no answer; says why.
            StrategyRefused: too few parts are in the sum.
        """
        point("worker-result")
        if self._count < (least := least_updates(self._strategy)):
            raise StrategyRefused(f"{self._count} parts; a sum needs at least {least}")
        total = self._total
        if self._strategy.masked:
            total = from_limbs(self._ring.lifted(added, subtracted), self._count)
        known, done = step(self._question, self._known, total)
        for name, values in known.items():
            self._next[name][:] = values
        return {"done": done, "summed": [float(total[0]), 0.0, 0.0, []]}

    def _came(self) -> Vector:
        return np.frombuffer(self._inbox, "<f8", self._length)


def _numbers(layout: Layout) -> int:
    return sum(int(np.prod(spec.shape)) for spec in layout.specs)


def _column(name: str, arrays: Mapping[str, Any], tensor: str, place: int, values: Sequence[float]) -> Vector:
    """A column as float64 (n,), its codes as what they stand for."""
    held = arrays[tensor]
    table = held.reshape(len(held), -1) if len(held) else held.reshape(0, 1)
    if not 0 <= place < table.shape[1]:
        raise QuestionRefused(f"column {name!r} is not where the description of the data says")
    column = table[:, place]
    if not values:
        return np.asarray(column, np.float64)
    codes = column.astype(np.int64)
    if np.any(codes != column) or np.any((codes < 0) | (codes >= len(values))):
        raise QuestionRefused(f"column {name!r} holds codes that the description of the data does not have")
    return np.asarray(np.asarray(values, np.float64)[codes])
