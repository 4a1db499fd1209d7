"""The job that answers for rows by a plan that a node hosts. Runs in a seat only, with torch or numpy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from grid.faults import point
from grid.learning.arrays import NUMPY_TYPES, Array, views
from grid.learning.plan import Plan
from grid.learning.tensors import read_header
from grid.privacy.responses import MOST_LABELS
from grid.privacy.responses import told as randomized
from grid.wire.problems import PlanRefused, TooLarge
from grid.worker.seat import Desk, Job, Verb
from grid.worker.train_job import Kit


def predicting_with(kit: Kit) -> Job:
    """The job, done with that kit."""
    return partial(predicting, kit)


def predicting(kit: Kit, desk: Desk) -> Mapping[str, Verb]:
    """Read a plan and the rows that are asked about; then `predict`, as `port.PredictJob` says.

    Raises:
        PlanRefused, TensorsRefused: the rows are not what the plan takes.
    """
    plan = Plan.from_bundle(desk.files["bundle"])
    layout, _, offset = read_header(desk.files["asked"], total=len(desk.files["asked"]))
    given = views(layout, desk.files["asked"][offset:])
    taken = [entry.name for entry in plan.recipe.model.named("input")]
    if len(given) == len(taken) == 1:
        given = dict(zip(taken, given.values(), strict=True))
    if set(given) != set(taken):
        raise PlanRefused(f"the plan takes {', '.join(taken)}; given are {', '.join(given) or 'no tensors'}")
    rows = {len(array) if array.ndim else 0 for array in given.values()}
    if len(rows) != 1 or 0 in rows:
        raise PlanRefused("all inputs have the same number of rows, and there is one at least")

    def predict(epsilon: float = 0.0, secret: bytes = b"") -> dict[str, Any]:
        point("worker-before-answer")
        answers = kit.predict(plan, given, threads=desk.limits.threads)
        if epsilon:
            answers = _labels(answers, epsilon, secret)
        told = _handed_out(np.ascontiguousarray(answers), desk.outbox)
        point("worker-after-answer")
        return told

    return {"predict": predict}


def _labels(answers: Array, epsilon: float, secret: bytes) -> Array:
    """Which class each row is of, told under differential privacy. An answer that is no number stands for class 0."""
    scores = np.nan_to_num(answers, nan=-np.inf)
    wide = scores.shape[1] if scores.ndim == 2 else 1 if scores.ndim == 1 else 0
    if not 1 <= wide <= MOST_LABELS:
        raise PlanRefused(f"what each answer costs is only known of labels; this plan gives {list(answers.shape)}")
    labels = scores.argmax(1) if wide > 1 else (scores.reshape(-1) > 0).astype(np.int64)
    return randomized(labels, max(wide, 2), epsilon, secret)


def _handed_out(answers: Array, outbox: memoryview) -> dict[str, Any]:
    if answers.nbytes > len(outbox):
        raise TooLarge(
            f"the answers have {answers.nbytes} bytes, at most {len(outbox)} are given: ask about fewer rows"
        )
    outbox[: answers.nbytes] = answers.reshape(-1).view(np.uint8).data
    dtype = next(name for name, kind in NUMPY_TYPES.items() if np.dtype(kind) == answers.dtype and name != "BF16")
    return {"dtype": dtype, "shape": list(answers.shape), "bytes": answers.nbytes}
