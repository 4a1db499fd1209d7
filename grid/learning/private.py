"""A plan made private: how much noise keeps an epsilon over all rounds of a run."""

from __future__ import annotations

from typing import NamedTuple

from grid.learning.plan import Plan
from grid.learning.recipe import Dp
from grid.privacy.rdp import noise_for_steps
from grid.wire.problems import PlanRefused


class Privacy(NamedTuple):
    """What a run may cost each record: `epsilon` at `delta` for all its rounds together.

    Each step takes each record with probability `rate` and clips its gradient to `clip`.
    """

    epsilon: float
    delta: float = 1e-5
    clip: float = 1.0
    rate: float = 0.1


def made_private(plan: Plan, wish: Privacy | Dp, rounds: int) -> Plan:
    """The plan with as much noise as the wish needs over so many rounds, or just so.

    Raises:
        PlanRefused: no noise is enough, a number is out of bounds, or the plan cannot be private.
    """
    if isinstance(wish, Dp):
        return plan.with_(dp=wish)
    made = plan.with_(dp=Dp(wish.clip, 1.0, wish.rate, wish.delta))
    try:
        noise = noise_for_steps(wish.epsilon, wish.delta, wish.rate, rounds * made.recipe.private_steps)
    except ValueError as error:
        raise PlanRefused(f"dp: {error}") from None
    return plan.with_(dp=Dp(wish.clip, noise, wish.rate, wish.delta))
