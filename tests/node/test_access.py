from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from grid.crypto.identity import Identity
from grid.node.access import Access
from grid.store.database import Database
from grid.wire.node import Trust
from grid.wire.problems import NotAllowed, NotFound

ANN, BOB, OWNER = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2, 3))


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "node.db", "node") as database:
        yield database


def at(database: Database) -> Access:
    return Access(database, lambda: 1000.0, owners=(OWNER.id,))


async def test_nobody_may_train_but_the_owner_and_whom_the_owner_trusts(database: Database) -> None:
    access = at(database)
    access.may_train(OWNER.id)
    with pytest.raises(NotAllowed, match=f"grid-node peer trust {ANN.id}"):
        access.may_train(ANN.id)

    await access.trust(ANN.id, "Ann")
    access.may_train(ANN.id)
    with pytest.raises(NotAllowed):
        access.may_train(BOB.id)


async def test_trust_survives_a_restart(database: Database) -> None:
    await at(database).trust(ANN.id, "Ann")

    at(database).may_train(ANN.id)
    assert at(database).trusted() == (Trust(ANN.id, "Ann"),)


async def test_trust_can_be_taken_back(database: Database) -> None:
    access = at(database)
    await access.trust(ANN.id)
    await access.distrust(ANN.id)

    for seen in (access, at(database)):
        with pytest.raises(NotAllowed):
            seen.may_train(ANN.id)
    with pytest.raises(NotFound):
        await access.distrust(ANN.id)


async def test_trusting_again_without_a_name_keeps_the_name(database: Database) -> None:
    access = at(database)
    await access.trust(ANN.id, "Ann")
    await access.trust(ANN.id)
    assert access.trusted() == (Trust(ANN.id, "Ann"),)

    await access.trust(ANN.id, "Ann B.")
    assert access.trusted() == at(database).trusted() == (Trust(ANN.id, "Ann B."),)


def test_a_caller_without_a_key_may_not_train(database: Database) -> None:
    with pytest.raises(NotAllowed, match="key that can sign"):
        at(database).may_train(None)


async def test_a_token_opens_until_the_next_one_is_made(database: Database) -> None:
    access = at(database)
    first = await access.renew_token()
    assert access.is_owner(first)

    second = await access.renew_token()
    assert at(database).is_owner(second)
    assert not access.is_owner(first)
    assert not any(map(access.is_owner, ("", "x" * 43, second[:-1], second + " ", "é" * 43)))


async def test_a_token_is_not_kept(database: Database, tmp_path: Path) -> None:
    token = await at(database).renew_token()

    assert not any(token.encode() in path.read_bytes() for path in tmp_path.iterdir())


def test_the_owners_key_speaks_for_the_owner(database: Database) -> None:
    assert at(database).owner_keys() == {OWNER.public}
