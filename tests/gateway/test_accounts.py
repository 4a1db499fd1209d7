from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from grid.gateway.accounts import FAILURES, WINDOW, Accounts
from grid.store.database import Database
from grid.wire.problems import AccountRefused, NotAuthenticated, NotFound, TooManyRequests
from tests.gateway.fakes import Clock

PASSWORD = "correct horse battery"


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "gateway.db", "gateway") as db:
        yield db


async def test_a_caller_is_who_the_password_says_and_the_file_does_not_have_it(db: Database) -> None:
    accounts = Accounts(db, Clock(), cost=2)
    made = await accounts.create("ann", PASSWORD, "ann@example.org")

    for _ in range(2):  # tried, and remembered
        caller = await accounts.check("ann", PASSWORD)
        assert (caller.account, caller.owner, caller.public) == ("ann", False, None)
    for name, password in (("ann", "another password"), ("eve", PASSWORD), ("ann", "")):
        with pytest.raises(NotAuthenticated):
            await accounts.check(name, password)
    files = b"".join(path.read_bytes() for path in db.path.parent.iterdir() if path.is_file())
    assert b"ann@example.org" in files
    assert PASSWORD.encode() not in files
    await accounts.delete(made.id)
    with pytest.raises(NotAuthenticated):
        await accounts.check("ann", PASSWORD)


async def test_a_new_password_closes_what_the_old_one_opened(db: Database) -> None:
    accounts = Accounts(db, Clock(), cost=2)
    made = await accounts.create("ann", PASSWORD)
    await accounts.check("ann", PASSWORD)

    await accounts.change(made.id, None, "quite another one")

    with pytest.raises(NotAuthenticated):
        await accounts.check("ann", PASSWORD)
    await accounts.check("ann", "quite another one")


async def test_wrong_passwords_are_tried_only_so_often_in_a_minute(db: Database) -> None:
    clock = Clock()
    accounts = Accounts(db, clock, cost=2)
    await accounts.create("ann", PASSWORD)
    for _ in range(FAILURES):
        with pytest.raises(NotAuthenticated):
            await accounts.check("ann", "a guess")

    with pytest.raises(TooManyRequests):
        await accounts.check("ann", PASSWORD)
    clock.passes(WINDOW + 1)
    await accounts.check("ann", PASSWORD)


@pytest.mark.parametrize(("name", "password"), [("ann", PASSWORD), ("a:b", PASSWORD), ("", PASSWORD), ("bob", "short")])
async def test_what_could_not_be_used_or_is_guessed_is_no_account(db: Database, name: str, password: str) -> None:
    accounts = Accounts(db, Clock(), cost=2)
    await accounts.create("ann", PASSWORD)

    with pytest.raises(AccountRefused):
        await accounts.create(name, password)
    with pytest.raises(NotFound):
        await accounts.get(99)
