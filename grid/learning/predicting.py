"""What a plan answers about rows that its node was never asked to learn from. With torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from grid.learning.model import Model
from grid.learning.plan import Plan
from grid.learning.state import tensor_views
from grid.learning.training import constants_of, load_input, transformed
from grid.wire.problems import PlanRefused

BATCH = 256
"""Rows that are computed at a time."""


def predict(plan: Plan, tensors: Mapping[str, NDArray[Any]], threads: int = 1) -> NDArray[np.float32]:
    """The first output of a plan for rows: (n, ...), as float32.

    `tensors` are the plan's inputs by their names, each (n, ...).

    Raises:
        PlanRefused: they are not what the plan takes, or it failed on them.
    """
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    recipe = plan.recipe
    features = [load_input(entry, tensors[entry.name]) for entry in recipe.model.named("input")]
    features[0] = transformed(recipe, features[0])
    model = Model(recipe, tensor_views(plan.layout, plan.initial), constants_of(plan), training=False)
    found: list[NDArray[np.float32]] = []
    try:
        with torch.no_grad():
            batches = zip(*(torch.split(feature, BATCH) for feature in features), strict=True)
            found.extend(model(rows)[0].to(torch.float32).numpy() for rows in batches)
    except (RuntimeError, IndexError, TypeError, ValueError, ArithmeticError) as error:
        raise PlanRefused(f"the plan failed on these rows ({type(error).__name__})") from None
    if [len(part) for part in found] != [len(rows) for rows in torch.split(features[0], BATCH)]:
        raise PlanRefused("the plan does not give one answer for each row")
    return np.concatenate(found)
