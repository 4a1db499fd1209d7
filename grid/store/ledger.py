"""Rows of the privacy ledger. Judged and written in one transaction, so that two runs never share what is left."""

from __future__ import annotations

import sqlite3
from array import array
from collections.abc import Iterable

from msgspec.structs import replace

from grid.privacy.rdp import Curve
from grid.protocol.ledger import Budget, Charge, admit, again, total
from grid.store.schema import Transaction

_CHARGE = "run, dataset, account, curve, rounds, used, state"


def set_budget(connection: Transaction, budget: Budget) -> None:
    """A budget, in place of the one that there was."""
    connection.execute(
        "INSERT OR REPLACE INTO budgets (dataset, subject, epsilon, delta) VALUES (?, ?, ?, ?)",
        (budget.dataset, budget.subject, budget.epsilon, budget.delta),
    )


def drop_budget(connection: Transaction, dataset: str, subject: str) -> bool:
    """No such budget any more; whether there was one. What was spent stays."""
    found = connection.execute("DELETE FROM budgets WHERE dataset = ? AND subject = ?", (dataset, subject))
    return found.rowcount > 0


def budgets(connection: sqlite3.Connection) -> list[Budget]:
    """All budgets, by dataset and subject."""
    rows = connection.execute("SELECT dataset, subject, epsilon, delta FROM budgets ORDER BY dataset, subject")
    return [Budget(*row) for row in rows]


def members(connection: sqlite3.Connection) -> dict[str, frozenset[str]]:
    """Whose runs are those of an account or a group: their names, and the keys of before they were these accounts'."""
    whose = {name: {name} for (name,) in connection.execute("SELECT name FROM accounts")}
    for name, key in connection.execute("SELECT name, public_key FROM account_keys JOIN accounts ON id = account"):
        whose[name].add(key)
    groups = {name: set[str]() for (name,) in connection.execute("SELECT name FROM groups")}
    for group, account in connection.execute(
        "SELECT g.name, a.name FROM group_accounts "
        "JOIN groups g ON g.id = group_id JOIN accounts a ON a.id = account_id"
    ):
        groups[group] |= whose[account]
    return {name: frozenset(found) for name, found in (whose | groups).items()}


def charges(connection: sqlite3.Connection, dataset: str, run: str | None = None) -> list[Charge]:
    """What runs cost a dataset, oldest first; or what one of them does."""
    rows = connection.execute(
        f"SELECT {_CHARGE} FROM charges WHERE dataset = ? AND run = COALESCE(?, run) ORDER BY at",  # noqa: S608
        (dataset, run),
    )
    return [Charge(run, of, who, _read(curve), *rest) for run, of, who, curve, *rest in rows]


def reserve(connection: Transaction, asked: Charge, at: float) -> Charge:
    """Set aside what a run may cost, if it fits.

    One that is set aside is found as it is; one that was settled is judged again.

    Raises:
        BudgetSpent: it does not fit; nothing is set aside.
        InviteRefused: another run was here by that name.
    """
    there = {each.run: each for each in charges(connection, asked.dataset)}
    whose = members(connection)
    if before := there.pop(asked.run, None):
        if before.account in whose.get(asked.account, ()):  # its key has become that account's meanwhile
            before = replace(before, account=asked.account)
        asked = again(before, asked)
        if before.state == "reserved":
            return before
    admit(asked, _judged(connection, asked, there.values(), whose))
    connection.execute(
        f"INSERT OR REPLACE INTO charges ({_CHARGE}, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (asked.run, asked.dataset, asked.account, _written(asked.curve), asked.rounds, asked.used, asked.state, at),
    )
    return asked


def judge(connection: sqlite3.Connection, asked: Charge) -> list[tuple[Budget, Curve]]:
    """The budgets that a run would fall under, each with what other runs take of it; nothing is set aside."""
    others = [each for each in charges(connection, asked.dataset) if each.run != asked.run]
    return _judged(connection, asked, others, members(connection))


def pay(connection: Transaction, run: str, dataset: str) -> int:
    """One more round of a run was paid for; how many were. 0: nothing is reserved for it, or no more."""
    row = connection.execute(
        "UPDATE charges SET used = used + 1 "
        "WHERE run = ? AND dataset = ? AND state = 'reserved' AND used < rounds RETURNING used",
        (run, dataset),
    ).fetchone()
    return int(row[0]) if row else 0


def settle(connection: Transaction, run: str) -> None:
    """A run is over here: what it did not use is given back."""
    connection.execute("UPDATE charges SET state = 'settled' WHERE run = ?", (run,))


def settle_into(connection: Transaction, run: str, dataset: str, into: str) -> None:
    """The same for one of many small ones: what it used is added to a single row of its account, and its own goes."""
    this = next(iter(charges(connection, dataset, run)), None)
    if this is None:
        return
    connection.execute("DELETE FROM charges WHERE run = ? AND dataset = ?", (run, dataset))
    if not this.used:
        return
    spent = replace(this, state="settled").cost
    before = next(iter(charges(connection, dataset, into)), None)
    if before is not None:
        spent = tuple(one + other for one, other in zip(spent, before.cost, strict=True))
    connection.execute(
        f"INSERT OR REPLACE INTO charges ({_CHARGE}, at) SELECT ?, ?, ?, ?, 1, 1, 'settled', "  # noqa: S608
        "(SELECT COALESCE(MAX(at), 0) FROM charges)",
        (into, dataset, this.account, _written(spent)),
    )


def _judged(
    connection: sqlite3.Connection, asked: Charge, others: Iterable[Charge], members: dict[str, frozenset[str]]
) -> list[tuple[Budget, Curve]]:
    """The budgets that a run falls under, each with what other runs take of it."""
    judged, there = [], list(others)
    for budget in budgets(connection):
        if budget.dataset != asked.dataset:
            continue
        whose = members.get(budget.subject, frozenset({budget.subject}))
        if budget.subject and asked.account not in whose:
            continue
        judged.append((budget, total(each for each in there if not budget.subject or each.account in whose)))
    return judged


def _written(curve: tuple[float, ...]) -> bytes:
    return array("d", curve).tobytes()


def _read(data: bytes) -> tuple[float, ...]:
    return tuple(array("d", data))
