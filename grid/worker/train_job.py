"""The job that trains: one plan on one dataset, round after round. Runs in a seat only.

A model is its data section here, in the order of the plan's layout: in the inbox the one to start
from, in the outbox the one that came out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from grid.learning.arrays import views
from grid.learning.plan import Plan
from grid.learning.recipe import Limits as Grant
from grid.learning.split import split
from grid.learning.state import tensor_views
from grid.learning.tensors import header_bytes, read_header
from grid.learning.training import Trainer, warm_up
from grid.wire.problems import WorkerFailed
from grid.worker.seat import Desk, Verb

__all__ = ["train", "warm_up"]


def train(
    desk: Desk, inputs: list[str], target: str, holdout: float, seed: int, grant: dict[str, Any]
) -> Mapping[str, Verb]:
    """Read and check plan and data; then `prepare`, `fit` and `evaluate`.

    Raises:
        PlanRefused: the plan breaks a rule, does not fit the data, or asks for more than the grant and limits.
    """
    plan = Plan.from_bundle(desk.files["bundle"])
    data, _, offset = read_header(desk.files["tensors"], total=len(desk.files["tensors"]))
    arrays = views(data, desk.files["tensors"][offset:])
    limits = msgspec.structs.replace(
        msgspec.convert(grant, Grant), memory=desk.limits.memory, threads=desk.limits.threads
    )
    trainer = Trainer(
        plan, arrays, inputs=tuple(inputs), target=target, held_out=holdout, split_seed=seed, limits=limits
    )
    work = _Training(desk, plan, trainer, [len(rows) for rows in split(len(arrays[target]), holdout, seed)])
    return {"prepare": work.prepare, "fit": work.fit, "evaluate": work.evaluate}


class _Training:
    def __init__(self, desk: Desk, plan: Plan, trainer: Trainer, amounts: list[int]) -> None:
        self._plan, self._trainer, self._amounts = plan, trainer, amounts
        self._inbox, self._outbox = desk.inbox[: plan.layout.size], desk.outbox[: plan.layout.size]
        self._states = {
            "inbox": tensor_views(plan.layout, self._inbox),
            "outbox": tensor_views(plan.layout, self._outbox),
        }

    def prepare(self) -> dict[str, Any]:
        """What is about to be trained: the model's header, examples to train on and held out, bytes of a step."""
        training, held_out = self._amounts
        return {
            "layout": header_bytes(self._plan.layout),
            "digest": self._plan.digest,
            "examples": training,
            "held_out": held_out,
            "estimate": self._trainer.estimate.memory,
        }

    def fit(
        self,
        round: int = 0,  # noqa: A002 - the word of the protocol
        seed: int | None = None,
        epochs: int | None = None,
        steps: int | None = None,
    ) -> dict[str, Any]:
        """Train the model of the inbox into the outbox; `seed`, `epochs` and `steps` take the place of the plan's."""
        before = time.perf_counter()
        if seed is not None:
            self._plan.recipe = msgspec.structs.replace(self._plan.recipe, seed=seed)  # the trainer reads it there
        self._outbox[:] = self._inbox
        fitted = self._trainer.fit(self._states["outbox"], round_number=round, epochs=epochs, steps=steps)
        if not math.isfinite(fitted.loss):
            raise WorkerFailed("the training diverged: its loss is not a finite number")
        return {
            "examples": fitted.examples,
            "steps": fitted.steps,
            "metrics": {"loss": fitted.loss},
            "seconds": time.perf_counter() - before,
        }

    def evaluate(self, split: str = "held-out", model: Literal["inbox", "outbox"] = "inbox") -> dict[str, Any]:
        """Loss and metrics of a model on the `train` or `held-out` examples; `{}` where there are none."""
        score = self._trainer.evaluate(self._states[model], split)
        loss = {} if score.loss is None else {"loss": score.loss}
        return {"examples": score.examples, "metrics": loss | score.metrics}
