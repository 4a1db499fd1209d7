"""What a private run costs the records of a dataset here: what is asked of such runs, and what was spent by each.

A plan says how much noise each step gets; what that costs, this node reckons itself. A round is paid for after it is
trained and before anything of it leaves, on disk, so that nobody has more rounds than the task says by asking again.
"""

from __future__ import annotations

import os

from grid.learning.plan import Plan
from grid.learning.recipe import Dp
from grid.learning.study import Study
from grid.node.means import DELTA, Means
from grid.privacy.rdp import epsilon_of_steps
from grid.wire.problems import InviteRefused
from grid.wire.runs import Task

PAID = "paid"
"""What the journal calls a round that was paid for."""

SECRET = 16

REFUSED = "this node's records may only be learned from under differential privacy: the plan needs dp"


class Spending:
    """What one run costs here; nothing is asked of, and nothing noted for, a plan without `dp`."""

    def __init__(self, means: Means, task: Task, dp: Dp | None, steps: int, spent: int) -> None:
        self._means, self._task, self._dp, self._steps, self._spent = means, task, dp, steps, spent

    def begin(self) -> dict[str, bytes]:
        """What a training is told that nobody else may know, new for each one.

        Raises:
            InviteRefused: all rounds of the run are paid for.
        """
        if self._dp is None:
            return {}
        if self._spent >= self._task.rounds:
            raise InviteRefused(f"all {self._task.rounds} rounds of this private run were trained here already")
        return {"secret": os.urandom(SECRET)}

    async def paid(self, number: int) -> dict[str, float]:
        """Round `number` was trained: note it, and say what the run has cost each record by now."""
        if self._dp is None:
            return {}
        self._spent += 1
        cost = {"record-epsilon": self._dp.epsilon(self._spent * self._steps), "record-delta": self._dp.delta}
        await self._means.records.noted(self._task.run, PAID, {"round": number, **cost})
        return cost


async def spending_of(means: Means, task: Task, plan: Plan | Study) -> Spending:
    """What a run has spent here; asked before its data is read.

    Raises:
        InviteRefused: it is not as private as this node's owner asks, or tells of records beside the noise.
    """
    recipe = None if isinstance(plan, Study) else plan.recipe
    dp, steps = (recipe.dp, recipe.private_steps) if recipe else (None, 0)
    if means.dp_required:
        if dp is None:
            raise InviteRefused(REFUSED)
        cost = epsilon_of_steps(dp.rate, dp.noise, task.rounds * steps, DELTA)
        if cost > means.dp_required:
            raise InviteRefused(
                f"{task.rounds} rounds would cost each record epsilon {cost:.3g} at delta {DELTA:g}; "
                f"this node grants {means.dp_required:g}"
            )
    if dp is None:
        return Spending(means, task, None, 0, 0)
    if task.holdout:
        raise InviteRefused("a private run holds no examples out: what is measured on them is not noised")
    return Spending(means, task, dp, steps, await means.records.notes(task.run, PAID))
