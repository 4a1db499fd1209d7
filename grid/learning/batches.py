"""How many steps a round has and which rows come in each, the same whatever the training is done with."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator

import numpy as np

from grid.learning.recipe import Limits, Recipe
from grid.learning.split import Indices
from grid.wire.problems import PlanRefused


def check_amounts(recipe: Recipe, examples: int, limits: Limits) -> None:
    """Refuse to train on so few rows, or in so small batches, that they could be read back.

    Raises:
        PlanRefused: fewer than plan or node ask for.
    """
    least = max(recipe.minimum_examples, limits.minimum_examples)
    why = "the examples can be read back from the gradient of a few (gradient inversion)"
    if examples < least:
        raise PlanRefused(f"{examples} examples to train on; at least {least} are asked for, because {why}")
    if recipe.dp is not None and recipe.dp.rate * examples < limits.minimum_batch:
        least = math.ceil(limits.minimum_batch / recipe.dp.rate)
        raise PlanRefused(f"steps of {recipe.dp.rate:g} of {examples} examples are too small; {least} are asked for")
    if recipe.batch < limits.minimum_batch:
        raise PlanRefused(f"batch {recipe.batch}; this node asks for {limits.minimum_batch} or more, because {why}")


def steps_in(recipe: Recipe, examples: int, limits: Limits, epochs: int | None, steps: int | None) -> int:
    """Steps of a round over so many rows; `epochs` and `steps` take the place of the recipe's.

    Raises:
        PlanRefused: more than the limits grant.
    """
    if steps is None and epochs is None and recipe.steps:
        steps = recipe.steps
    if steps is None:
        steps = steps_of_epoch(recipe, examples, limits) * (recipe.epochs if epochs is None else epochs)
    if steps > limits.maximum_steps:
        raise PlanRefused(f"{steps} steps in a round; this node grants {limits.maximum_steps}")
    return steps


def steps_of_epoch(recipe: Recipe, examples: int, limits: Limits) -> int:
    """Steps in which so many rows are seen once."""
    if recipe.dp is not None:
        return recipe.dp.steps_of_epoch
    return len(_starts(examples, min(recipe.batch, examples), limits.minimum_batch))


def batches(rows: Indices, batch: int, limits: Limits, seed: int) -> Iterator[Indices]:
    """Row numbers of one batch after another, each epoch in a new order, without end."""
    starts = _starts(len(rows), batch, limits.minimum_batch)
    rng = np.random.default_rng(seed)
    while True:
        order = rng.permutation(rows)
        for start in starts:
            yield order[start : start + batch]


def seed_of(seed: int, round_number: int) -> int:
    """A seed of 56 bits for a round of a plan with that seed."""
    digest = hashlib.sha256(f"{seed}/{round_number}".encode()).digest()
    return int.from_bytes(digest[:7], "little")


def _starts(examples: int, batch: int, least: int) -> range:
    """Where batches begin; a last one with fewer than `least` rows is left out."""
    rest = examples % batch
    whole = examples - rest if rest < least else examples
    return range(0, max(whole, 1), batch)
