"""A plan tried out in this process, on arrays that somebody has: nothing is sent, no node is asked."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from grid.learning.plan import Plan

SECRET = 16


def tried(
    plan: Plan, arrays: Mapping[str, Any], inputs: Sequence[str] = ("features",), target: str = "target"
) -> dict[str, float]:
    """Train a plan for one round on numpy arrays by name, each (rows, ...), as a node would.

    The loss and metrics of what it learned on the same rows, and `steps`. Without torch, only linear plans will do.

    Raises:
        PlanRefused: plan and arrays do not fit.
    """
    torch = find_spec("torch") is not None
    room = import_module("grid.learning.training" if torch else "grid.learning.numpy_training")
    views = import_module("grid.learning.state").tensor_views if torch else import_module("grid.learning.arrays").views
    plan = plan.with_(minimum_examples=1)
    trainer = room.Trainer(plan, dict(arrays), inputs=tuple(inputs), target=target, held_out=0.0)
    state = views(plan.layout, bytearray(plan.initial))
    secret = {"secret": os.urandom(SECRET)} if plan.recipe.dp else {}
    fitted = trainer.fit(state, **secret)
    score = trainer.evaluate(state, "train")
    return {"steps": float(fitted.steps), "loss": float(score.loss), **score.metrics}
