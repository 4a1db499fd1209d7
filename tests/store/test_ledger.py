"""The ledger on disk: what is reserved is never more than there is, whoever asks at the same time."""

from __future__ import annotations

import multiprocessing
import tempfile
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from grid.privacy.rdp import epsilon_of, of_step
from grid.protocol.ledger import Budget, Charge, total
from grid.store import accounts, ledger
from grid.store.schema import Transaction, connect, prepare
from grid.wire.problems import BudgetSpent, InviteRefused

COST = of_step(1.0, 10.0)
WHOLE = Budget("trial", "", 4.0, 1e-5)
STUDENTS, ANN = Budget("trial", "students", 2.5, 1e-5), Budget("trial", "ann", 2.0, 1e-5)
MEMBERS = frozenset({"ann", "bob"})


def opened(path: Path) -> Transaction:
    prepare(path, "node")
    connection = connect(path)
    for budget in (WHOLE, STUDENTS, ANN):
        ledger.set_budget(connection, budget)
    group = accounts.put_group(connection, None, "students")
    for member in sorted(MEMBERS):
        row = accounts.add_account(connection, accounts.AccountRow(0, member, "", "", 1, 0.0), first=None)
        accounts.put_in_groups(connection, row.id, [group])
    return connection


def spent(connection: Transaction, who: frozenset[str] | None) -> float:
    found = total(each for each in ledger.charges(connection, "trial") if who is None or each.account in who)
    return epsilon_of(found, 1e-5) if any(found) else 0.0


class Spenders(RuleBasedStateMachine):
    """Runs come, train, end and crash in any order; every budget holds at every moment."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.connection = opened(Path(self.folder.name) / "node.db")
        self.number = 0

    def teardown(self) -> None:
        self.connection.close()
        self.folder.cleanup()

    @rule(who=st.sampled_from(["ann", "bob", "eve"]), rounds=st.integers(1, 40))
    def asks(self, who: str, rounds: int) -> None:
        self.number += 1
        before = ledger.charges(self.connection, "trial")
        try:
            ledger.reserve(self.connection, Charge(f"run-{self.number}", "trial", who, COST, rounds), self.number)
        except BudgetSpent:
            assert ledger.charges(self.connection, "trial") == before

    @rule(which=st.integers(1, 30), dear=st.booleans())
    def asks_again(self, which: int, dear: bool) -> None:
        there = {each.run: each for each in ledger.charges(self.connection, "trial")}
        if before := there.get(f"run-{which}"):
            curve = of_step(1.0, 1.0) if dear else COST
            try:
                asked = Charge(before.run, "trial", before.account, curve, before.rounds)
                assert ledger.reserve(self.connection, asked, self.number).used == before.used
                assert not dear
            except (BudgetSpent, InviteRefused):
                assert there == {each.run: each for each in ledger.charges(self.connection, "trial")}

    @rule(which=st.integers(1, 30))
    def trains(self, which: int) -> None:
        ledger.pay(self.connection, f"run-{which}", "trial")

    @rule(which=st.integers(1, 30))
    def ends(self, which: int) -> None:
        ledger.settle(self.connection, f"run-{which}")

    @rule()
    def crashes(self) -> None:
        self.connection.close()
        self.connection = connect(Path(self.folder.name) / "node.db")

    @invariant()
    def holds(self) -> None:
        assert spent(self.connection, None) <= WHOLE.epsilon
        assert spent(self.connection, MEMBERS) <= STUDENTS.epsilon
        assert spent(self.connection, frozenset({"ann"})) <= ANN.epsilon
        assert all(each.used <= each.rounds for each in ledger.charges(self.connection, "trial"))


TestSpenders = Spenders.TestCase
TestSpenders.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)


def test_a_run_that_asks_again_is_found_as_it_was(tmp_path: Path) -> None:
    connection = opened(tmp_path / "node.db")
    asked = Charge("r", "trial", "eve", COST, 20)
    ledger.reserve(connection, asked, 0.0)
    assert ledger.pay(connection, "r", "trial") == 1

    assert ledger.reserve(connection, asked, 1.0).used == 1
    assert len(ledger.charges(connection, "trial")) == 1


def test_no_more_rounds_are_paid_for_than_were_reserved(tmp_path: Path) -> None:
    connection = opened(tmp_path / "node.db")
    ledger.reserve(connection, Charge("r", "trial", "eve", COST, 2), 0.0)

    assert [ledger.pay(connection, "r", "trial") for _ in range(4)] == [1, 2, 0, 0]
    assert ledger.pay(connection, "unheard of", "trial") == 0


def test_a_run_that_gave_back_its_rounds_trains_on_only_if_they_are_there_still(tmp_path: Path) -> None:
    connection = opened(tmp_path / "node.db")
    asked = Charge("r", "trial", "eve", COST, 60)
    ledger.reserve(connection, asked, 0.0)
    ledger.pay(connection, "r", "trial")
    ledger.settle(connection, "r")

    assert ledger.pay(connection, "r", "trial") == 0
    assert ledger.reserve(connection, asked, 1.0) == replace(asked, used=1)
    ledger.settle(connection, "r")
    ledger.reserve(connection, replace(asked, run="s"), 2.0)
    with pytest.raises(BudgetSpent):
        ledger.reserve(connection, asked, 3.0)
    assert ledger.pay(connection, "r", "trial") == 0


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("other", [{"account": "ann"}, {"curve": of_step(1.0, 1.0)}, {"rounds": 3}])
def test_another_run_does_not_train_in_the_name_of_one_that_paid_less(
    tmp_path: Path, settled: bool, other: dict[str, Any]
) -> None:
    connection = opened(tmp_path / "node.db")
    asked = Charge("r", "trial", "eve", COST, 2)
    ledger.reserve(connection, asked, 0.0)
    if settled:
        ledger.settle(connection, "r")

    with pytest.raises(InviteRefused, match="another account"):
        ledger.reserve(connection, replace(asked, **other), 1.0)
    assert [(each.account, each.curve, each.rounds) for each in ledger.charges(connection, "trial")] == [
        ("eve", COST, 2)
    ]


def test_whoever_leaves_a_group_spends_for_itself_alone(tmp_path: Path) -> None:
    connection = opened(tmp_path / "node.db")
    ledger.reserve(connection, Charge("r", "trial", "bob", COST, 25), 0.0)
    with pytest.raises(BudgetSpent, match="students"):
        ledger.reserve(connection, Charge("s", "trial", "bob", COST, 15), 1.0)

    (bob,) = [row for row in accounts.accounts(connection) if row.name == "bob"]
    accounts.put_in_groups(connection, bob.id, [])
    assert ledger.reserve(connection, Charge("s", "trial", "bob", COST, 15), 1.0).rounds == 15
    assert ledger.drop_budget(connection, "trial", "students")
    assert not ledger.drop_budget(connection, "trial", "students")


def _race(path: Path, name: str, told: Queue[int]) -> None:
    connection, admitted = connect(path), 0
    for number in range(20):
        connection.execute("BEGIN IMMEDIATE")
        try:
            ledger.reserve(connection, Charge(f"{name}-{number}", "trial", "eve", COST, 5), number)
            connection.execute("COMMIT")
            admitted += 1
        except BudgetSpent:
            connection.execute("ROLLBACK")
    told.put(admitted)


def test_processes_that_ask_at_once_do_not_overspend(tmp_path: Path) -> None:
    connection = opened(tmp_path / "node.db")
    told: Queue[int] = multiprocessing.get_context("spawn").Queue()
    racers = [
        multiprocessing.get_context("spawn").Process(target=_race, args=(tmp_path / "node.db", f"p{number}", told))
        for number in range(4)
    ]
    for racer in racers:
        racer.start()
    admitted = sum(told.get(timeout=30) for _ in racers)
    for racer in racers:
        racer.join(30)

    there = ledger.charges(connection, "trial")
    assert len(there) == admitted > 0
    assert spent(connection, None) <= WHOLE.epsilon
    one_more = total([*there, Charge("x", "trial", "eve", COST, 5)])
    assert epsilon_of(one_more, 1e-5) > WHOLE.epsilon


def test_what_a_key_spent_is_its_accounts_once_it_stands_for_one(tmp_path: Path) -> None:
    connection = opened(tmp_path / "node.db")
    key = "k" * 43
    ledger.reserve(connection, Charge("r", "trial", key, COST, 8), 0.0)
    (ann,) = [row for row in accounts.accounts(connection) if row.name == "ann"]
    accounts.add_key(connection, ann.id, key, 1.0)

    assert ledger.members(connection)["ann"] == {"ann", key}
    assert key in ledger.members(connection)["students"]
    assert ledger.reserve(connection, Charge("r", "trial", "ann", COST, 8), 2.0).account == "ann"  # it goes on
    with pytest.raises(BudgetSpent, match="of ann"):
        ledger.reserve(connection, Charge("s", "trial", "ann", COST, 30), 3.0)
