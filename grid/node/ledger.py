"""The privacy ledger of this node: budgets that its owner sets, and what runs reserve, pay and give back of them."""

from __future__ import annotations

from collections.abc import Callable

from grid.learning.plan import Plan
from grid.learning.strategy import Masked, Strategy
from grid.learning.study import Study
from grid.privacy.rdp import Curve, epsilon_of, of_step
from grid.protocol.ledger import NOTHING, Budget, Charge, admit, left, total
from grid.store import ledger as rows
from grid.store.database import Database
from grid.store.schema import Snapshot, Transaction
from grid.wire import budgets as wire
from grid.wire.problems import BudgetSpent, NotFound
from grid.wire.requests import Cost


def curve_of(plan: Plan | Study, strategy: Strategy) -> Curve | None:
    """What a round of a run costs each record at most; None where nothing hides it.

    A private plan hides each record by itself; noise on a sum hides whether a node took part at all, and with that
    each of its records.
    """
    dp = plan.recipe.dp if isinstance(plan, Plan) else None
    if dp is not None and isinstance(plan, Plan):
        return tuple(plan.recipe.private_steps * cost for cost in of_step(dp.rate, dp.noise))
    if isinstance(strategy.upload, Masked) and strategy.upload.noisy:
        return of_step(1.0, strategy.upload.noise)
    return None


class Ledger:
    """Reserve, pay, settle: each is on disk when it returns.

    Accounts are the names of those whose keys sign tasks, or such a key (wire form) that stands for none.
    """

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._db, self._now = database, now

    async def reserve(self, run: str, dataset: str, account: str, curve: Curve | None, rounds: int) -> int | None:
        """Set aside what a run may cost each record of a dataset: a `curve` for each round, None where there is no end.

        How many rounds it has paid for: 0, unless it had reserved before. None: it pays for nothing, and there is no
        budget that it would have to.

        Raises:
            BudgetSpent: it does not fit into a budget that it falls under.
            InviteRefused: another run was here by that name.
        """
        if curve is None:
            await self.check_bare(dataset)
            return None
        asked = Charge(run, dataset, account, curve, rounds)
        return (await self._db.write(lambda connection: rows.reserve(connection, asked, self._now()))).used

    async def check_bare(self, dataset: str) -> None:
        """Whether something may leave of a dataset that no noise hides. Raises BudgetSpent where it has a budget."""
        if any(budget.dataset == dataset for budget in await self._db.read(rows.budgets)):
            raise BudgetSpent(f"{dataset} has a privacy budget: what leaves of it is under differential privacy alone")

    async def check(self, dataset: str, account: str, curve: Curve | None, rounds: int) -> None:
        """Whether a run would fit into all budgets as they are; nothing is set aside. Raises BudgetSpent."""
        if curve is None:
            await self.check_bare(dataset)
            return
        asked = Charge("", dataset, account, curve, rounds)
        admit(asked, await self._db.read(lambda connection: rows.judge(connection, asked)))

    async def costs(self, dataset: str, account: str, curve: Curve | None, rounds: int) -> tuple[Cost, ...]:
        """What a run would take of every budget that it falls under: no share where nothing hides it."""
        asked = Charge("", dataset, account, NOTHING if curve is None else curve, rounds)
        judged = await self._db.read(lambda connection: rows.judge(connection, asked))
        told = []
        for budget, spent in judged:
            cost = epsilon_of(asked.cost, budget.delta) if any(asked.cost) else None if rounds else 0.0
            share = None if cost is None else cost / budget.epsilon
            told.append(Cost(budget.subject or "all who ask", budget.epsilon, cost, share, left(budget, spent)))
        return tuple(told)

    async def raise_budget(self, by: wire.SetBudget) -> None:
        """The budget of an account on a dataset, so much larger than it was; as large, if there was none."""

        def write(connection: Transaction) -> None:
            there = [b for b in rows.budgets(connection) if (b.dataset, b.subject) == (by.dataset, by.subject)]
            epsilon = by.epsilon + sum(each.epsilon for each in there)
            delta = there[0].delta if there else by.delta
            rows.set_budget(connection, Budget(by.dataset, by.subject, epsilon, delta))

        await self._db.write(write)

    async def pay(self, run: str, dataset: str) -> int:
        """A round of a run is trained, and leaves after this. How many it has paid for; 0: it may have no more."""
        return await self._db.write(lambda connection: rows.pay(connection, run, dataset))

    async def settle(self, run: str) -> None:
        """A run is over here: what it did not use is free again."""
        await self._db.write(lambda connection: rows.settle(connection, run))

    async def settle_answers(self, question: str, dataset: str, account: str) -> None:
        """A question is answered, or was not: what all answers to an account cost stands in one row."""
        await self._db.write(lambda connection: rows.settle_into(connection, question, dataset, f"answers/{account}"))

    # --- for its owner ------------------------------------------------------------------------------

    async def set(self, asked: wire.SetBudget) -> None:
        """A budget, in place of the one that there was. What was spent before counts."""
        budget = Budget(asked.dataset, asked.subject, asked.epsilon, asked.delta)
        await self._db.write(lambda connection: rows.set_budget(connection, budget))

    async def drop(self, dataset: str, subject: str) -> None:
        """No such budget any more. Raises NotFound."""
        if not await self._db.write(lambda connection: rows.drop_budget(connection, dataset, subject)):
            raise NotFound(f"there is no budget of {subject or 'all who ask'} on {dataset}")

    async def told(self) -> tuple[wire.BudgetInfo, ...]:
        """Every budget, with what was spent and what is left of it."""
        return await self._db.read(_told)


def _told(connection: Snapshot) -> tuple[wire.BudgetInfo, ...]:
    members, told = rows.members(connection), []
    for budget in rows.budgets(connection):
        whose = members.get(budget.subject, frozenset({budget.subject}))
        mine = [s for s in rows.charges(connection, budget.dataset) if not budget.subject or s.account in whose]
        spent = total(mine)
        told.append(
            wire.BudgetInfo(
                dataset=budget.dataset,
                subject=budget.subject,
                epsilon=budget.epsilon,
                delta=budget.delta,
                spent=epsilon_of(spent, budget.delta) if any(spent) else 0.0,
                left=left(budget, spent),
                runs=len(mine),
                reserved=sum(each.state == "reserved" for each in mine),
                members=tuple(sorted(whose)) if budget.subject in members else (),
            )
        )
    return tuple(told)
