"""What a run costs the records of a dataset here: what is asked of such runs, what they reserve, and what they paid.

A plan says how much noise each step gets, a strategy how much each sum; what that costs, this node reckons itself. All
rounds are reserved before data is read. A round is paid for after it is trained and before anything of it leaves, on
disk, so that nobody has more rounds than the task says by asking again.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from grid.learning.plan import Plan
from grid.learning.recipe import Dp
from grid.learning.strategy import Strategy
from grid.learning.study import Study
from grid.node.ledger import curve_of
from grid.node.means import DELTA, Means
from grid.privacy.rdp import epsilon_of_steps
from grid.wire.problems import InviteRefused
from grid.wire.runs import Task

PAID = "paid"
"""What the journal calls a round that was paid for."""

SECRET = 16

AGAIN = 2
"""Rounds that a run with noise on its sums reserves beside its own: a sum that breaks is begun anew, and paid again."""

REFUSED = "this node's records may only be learned from under differential privacy: the plan needs dp"


class Payer(NamedTuple):
    """Who pays for which run, out of the budgets of which dataset: the key that signed its task."""

    task: Task
    dataset: str
    account: str


class Spending:
    """What one run costs here. A run that hides nothing pays for nothing: it is not admitted where a budget is set.

    `spent` of `rounds` were paid for, None where nothing is paid; `dp` of a private plan, with its steps in a round.
    """

    def __init__(
        self, means: Means, payer: Payer, rounds: int, spent: int | None, dp: Dp | None = None, steps: int = 0
    ) -> None:
        self._means, self._payer, self._rounds, self._spent = means, payer, rounds, spent
        self._dp, self._steps = dp, steps

    def begin(self) -> dict[str, bytes]:
        """What a training is told that nobody else may know, new for each one.

        Raises:
            InviteRefused: all rounds of the run are paid for.
        """
        if self._spent is not None and self._spent >= self._rounds:
            raise InviteRefused(f"all {self._rounds} rounds of this private run were trained here already")
        return {} if self._dp is None else {"secret": os.urandom(SECRET)}

    async def paid(self, number: int) -> dict[str, float]:
        """Round `number` was trained: note it, and say what the run has cost each record by now, if its plan hides it.

        Raises:
            InviteRefused: all rounds of the run are paid for.
        """
        if self._spent is None:
            return {}
        if not (spent := await self._means.ledger.pay(self._payer.task.run, self._payer.dataset)):
            raise InviteRefused(f"all {self._rounds} rounds of this private run were paid for already")
        self._spent = spent
        if self._dp is None:
            return {}
        cost = {"record-epsilon": self._dp.epsilon(self._spent * self._steps), "record-delta": self._dp.delta}
        await self._means.records.noted(self._payer.task.run, PAID, {"round": number, **cost})
        return cost


async def spending_of(means: Means, payer: Payer, plan: Plan | Study, strategy: Strategy) -> Spending:
    """What a run has spent here; all that it may spend is reserved when this returns, before its data is read.

    Raises:
        InviteRefused: it is not as private as this node's owner asks, or tells of records beside the noise.
        BudgetSpent: it does not fit into the budgets of the dataset.
    """
    task, recipe = payer.task, None if isinstance(plan, Study) else plan.recipe
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
    if dp is not None and task.holdout:
        raise InviteRefused("a private run holds no examples out: what is measured on them is not noised")
    rounds = task.rounds if dp is not None else task.rounds + AGAIN
    curve = curve_of(plan, strategy)
    spent = await means.ledger.reserve(task.run, payer.dataset, payer.account, curve, rounds)
    return Spending(means, payer, rounds, spent, dp, steps)
