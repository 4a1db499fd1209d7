"""How checkpoints do on a dataset of this node, one beside the other: a job of its workers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from grid.learning.tensors import Layout
from grid.node.means import Means
from grid.node.models import has_plan, load_model
from grid.transport.auth import Caller
from grid.wire.problems import BudgetSpent, ModelRefused, NotAllowed, QuestionRefused
from grid.worker.port import Priority, Seat, TrainJob, trained_layout


class Basis(NamedTuple):
    """What checkpoints are measured on: a dataset of this node, and its tensors that go in and that are to come out."""

    dataset: str
    inputs: tuple[str, ...] = ("features",)
    target: str = "target"


class Score(NamedTuple):
    """The mean loss of a checkpoint and its other metrics, over so many examples."""

    examples: int
    loss: float
    metrics: Mapping[str, float]


class Appraiser:
    """Measures checkpoints on this node's datasets, in seats of its workers."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def admit(self, on: Basis, caller: Caller) -> None:
        """Whether somebody may have models measured on a dataset: a score is something learned from it.

        Raises:
            DatasetNotFound
            NotAllowed: the caller may not learn from these tensors, or by itself.
            QuestionRefused: it has too few rows to be told of.
            BudgetSpent: it may be learned from under differential privacy alone, and a score is not noised.
        """
        means = self._means
        means.permissions.check_train(means.access.asker(caller), on.dataset, (*on.inputs, on.target))
        if means.catalogue.get(on.dataset).examples < means.least_rows:
            raise QuestionRefused(f"dataset {on.dataset} has fewer than {means.least_rows} rows")
        if means.sums_only and not caller.owner:
            raise NotAllowed("what this node measures is told in sums alone")
        if means.dp_required:
            raise BudgetSpent("this node's records may only be learned from under differential privacy")
        await means.ledger.reserve("", on.dataset, caller.name or "", None, 1)

    async def compare(self, on: Basis, checkpoints: Sequence[Path], run: str = "") -> list[Score]:
        """How each of the checkpoints does, all in one seat. The first one with a plan in it says what is computed.

        Raises:
            ModelRefused: none has a plan, or one is of another model.
            PlanRefused: the plan does not fit the data.
            WorkerFailed, WorkerBusy
        """
        plan = await asyncio.to_thread(_with_plan, checkpoints)
        layout, _ = await asyncio.to_thread(trained_layout, plan)
        job = TrainJob(
            bundle=plan,
            tensors=self._means.catalogue.path_of(on.dataset),
            inputs=on.inputs,
            target=on.target,
            holdout=0.0,
            priority=Priority.EVALUATION,
            run=run,
        )
        seat = await self._means.trainer.open(job)
        try:
            await seat.call("prepare")
            return [await _score(seat, layout, path) for path in checkpoints]
        finally:
            await seat.close()


async def _score(seat: Seat, layout: Layout, checkpoint: Path) -> Score:
    await asyncio.to_thread(load_model, checkpoint, layout, seat.inbox[: layout.size])
    done = await seat.call("evaluate", split="train")  # nothing is held out: these are all rows
    metrics = dict(done["metrics"])
    return Score(done["examples"], metrics.pop("loss"), metrics)


def _with_plan(checkpoints: Sequence[Path]) -> Path:
    for path in checkpoints:
        if has_plan(path):
            return path
    raise ModelRefused("none of these checkpoints has a plan in it, which would say what to compute")
