"""The privacy ledger of a dataset: what was spent, what is reserved, and whether a run still fits.

A run reserves what all its rounds may cost before any data is read, pays round by round, and what it did not use is
given back when it ends; after a crash it stays reserved. Whether it fits is asked of every budget that it falls under:
that of the dataset (all who ask may collude), of the account on this dataset, and of each group of the account.

Source: Feldman & Zrnic 2021, "Individual privacy accounting via a Renyi filter", arXiv:2008.11193 (the filter: while
some order stays within, the next may be admitted, whatever was chosen by what came before).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from grid.privacy.rdp import ORDERS, Curve, epsilon_of
from grid.wire.problems import BudgetSpent, InviteRefused

NOTHING: Curve = (0.0,) * len(ORDERS)

State = Literal["reserved", "settled"]


class Budget(Struct, frozen=True):
    """At most `epsilon` at `delta` on a `dataset`: of all who ask where `subject` is empty, else of a key or group."""

    dataset: str
    subject: str
    epsilon: float
    delta: float


class Charge(Struct, frozen=True):
    """What one run costs the records of a dataset: `curve` each of its `rounds`, of which `used` were paid.

    Reserved, all of its rounds count; settled, those that were used.
    """

    run: str
    dataset: str
    account: str
    curve: Curve
    rounds: int
    used: int = 0
    state: State = "reserved"

    @property
    def cost(self) -> Curve:
        """What counts of it."""
        count = self.rounds if self.state == "reserved" else self.used
        return tuple(count * cost for cost in self.curve) if count else NOTHING


def total(charges: Iterable[Charge]) -> Curve:
    """What several runs cost together."""
    found = NOTHING
    for each in charges:
        found = tuple(one + other for one, other in zip(found, each.cost, strict=True))
    return found


def again(before: Charge, asked: Charge) -> Charge:
    """A run that was set aside before, as it goes on: what it paid stays paid, and all its rounds are reserved anew.

    Raises:
        InviteRefused: another run has its name, of another account, noise or number of rounds: it would pay too little.
    """
    if replace(before, used=asked.used, state=asked.state) != asked:
        raise InviteRefused(f"a run {asked.run} of another account, noise or number of rounds was here before")
    return replace(asked, used=before.used)


def left(budget: Budget, spent: Curve) -> float:
    """How much epsilon of a budget is not spent or reserved, as it is told to people."""
    return max(0.0, budget.epsilon - epsilon_of(spent, budget.delta)) if any(spent) else budget.epsilon


def admit(asked: Charge, budgets: Sequence[tuple[Budget, Curve]]) -> None:
    """Whether a run fits into all the budgets that it falls under, each with what was spent or reserved of it.

    Raises:
        BudgetSpent: it does not; the detail says which budget, and what is left of it.
    """
    for budget, spent in budgets:
        with_it = tuple(one + other for one, other in zip(spent, asked.cost, strict=True))
        if not (cost := epsilon_of(with_it, budget.delta)) <= budget.epsilon:
            whose = f"of {budget.subject}" if budget.subject else "of all who ask"
            raise BudgetSpent(
                f"the budget {whose} on {budget.dataset} is epsilon {budget.epsilon:g} at delta {budget.delta:g}, "
                f"{left(budget, spent):.3g} of it is left; with this run's {asked.rounds} rounds it would be {cost:.3g}"
            )
