"""The job that says how a plan does on one dataset, as a part of a study. Runs in a seat only, with torch or numpy."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from grid.learning.analytics import Known, Vector
from grid.learning.disclosure import check_rows_enough
from grid.learning.questions import Evaluate
from grid.learning.recipe import Limits as Grant
from grid.learning.strategy import read_strategy
from grid.learning.study import Study
from grid.wire.problems import QuestionRefused, WorkerFailed
from grid.worker.analysis_job import Answering
from grid.worker.seat import Desk, Job, Verb
from grid.worker.train_job import Kit, trainer_of


def evaluation_with(kit: Kit) -> Job:
    """The job, done with that kit."""
    return partial(evaluate, kit)


def evaluate(
    kit: Kit,
    desk: Desk,
    inputs: list[str],
    target: str,
    holdout: float,
    seed: int,
    grant: dict[str, Any],
    strategy: Mapping[str, Any],
    least_rows: int,
) -> Mapping[str, Verb]:
    """Read the plan of a study and the data; then the verbs of `Answering`. Arguments as in `port.TrainJob`.

    Raises:
        PlanRefused, QuestionRefused: it cannot be asked, or not of this data.
        GpuFailed: the seat's GPU could not do it.
    """
    study, chosen = Study.from_bundle(desk.files["bundle"]), read_strategy(strategy)
    question, plan = study.question, study.plan
    if not isinstance(question, Evaluate) or plan is None:
        raise QuestionRefused("this study is not about how a plan does")
    plan = plan.with_(minimum_examples=1)  # that is about training: here the owner's `least_rows` is what counts
    grant = msgspec.to_builtins(replace(msgspec.convert(grant, Grant), minimum_examples=1))
    trainer, (training, held_out), _ = trainer_of(kit, desk, plan, inputs, target, holdout, seed, grant)
    model, split = kit.views(plan.layout, bytearray(plan.initial)), "held-out" if holdout else "train"

    def own(known: Known) -> Vector:
        score = trainer.evaluate(model, split)
        check_rows_enough(score.examples, least_rows)
        means = np.array([1.0, score.loss, *(score.metrics[name] for name in question.metrics)])
        if not np.isfinite(means).all():
            raise WorkerFailed("this plan's loss is not a finite number here")
        return np.asarray(means * score.examples)

    return Answering(desk, study, chosen, held_out if holdout else training, own).verbs()
