from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from grid.protocol.pins import Pin
from grid.store import keys
from grid.store.database import Database
from grid.store.keys import StoredPrekey
from grid.wire.node import Trust


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "node") as db:
        yield db


async def test_prekeys_are_kept_newest_first_until_their_time_is_over(db: Database) -> None:
    old = StoredPrekey(b"old", b"secret 1", b"public 1", 0.0, 10.0)
    new = StoredPrekey(b"new", b"secret 2", b"public 2", 5.0, 15.0)
    for prekey in (old, new):
        await db.write(lambda c, prekey=prekey: keys.add_prekey(c, prekey))

    assert await db.read(keys.all_prekeys) == [new, old]
    assert await db.write(lambda c: keys.erase_prekeys(c, before=10.0)) == 0
    assert await db.write(lambda c: keys.erase_prekeys(c, before=10.1)) == 1
    assert await db.read(keys.all_prekeys) == [new]


def test_a_secret_half_is_not_shown() -> None:
    assert "secret" not in repr(StoredPrekey(b"id", b"secret", b"", 0.0, 1.0))


async def test_a_token_lets_in_whoever_bears_it_and_is_itself_not_kept(db: Database) -> None:
    await db.write(lambda c: keys.add_token(c, "correct horse", "owner", 1.0))

    assert await db.read(lambda c: keys.token_label(c, "correct horse")) == "owner"
    assert await db.read(lambda c: keys.token_label(c, "correct mule")) is None
    assert not any(b"correct horse" in file.read_bytes() for file in db.path.parent.iterdir())

    assert await db.write(lambda c: keys.revoke_tokens(c, "owner")) == 1
    assert await db.read(lambda c: keys.token_label(c, "correct horse")) is None


async def test_a_name_has_one_key_until_it_is_forgotten(db: Database) -> None:
    first, second = Pin("alpha", "first", 1.0, 2.0), Pin("alpha", "second", 3.0, 3.0, "by hand")
    await db.write(lambda c: keys.pin(c, first))
    assert await db.read(keys.pins) == [first]

    await db.write(lambda c: keys.pin(c, second))
    assert await db.read(lambda c: keys.pinned(c, "alpha")) == second

    assert await db.write(lambda c: keys.unpin(c, "alpha"))
    assert not await db.write(lambda c: keys.unpin(c, "alpha"))
    assert await db.read(lambda c: keys.pinned(c, "alpha")) is None


async def test_trust_is_given_named_anew_and_taken_back(db: Database) -> None:
    await db.write(lambda c: keys.trust(c, Trust(public_key="k" * 43, name="Ada"), 1.0))
    await db.write(lambda c: keys.trust(c, Trust(public_key="l" * 43, name="Bob"), 2.0))
    await db.write(lambda c: keys.trust(c, Trust(public_key="k" * 43, name="Ada L."), 3.0))

    assert [who.name for who in await db.read(keys.trusted)] == ["Ada L.", "Bob"]
    assert await db.write(lambda c: keys.distrust(c, "k" * 43))
    assert not await db.write(lambda c: keys.distrust(c, "k" * 43))
    assert [who.name for who in await db.read(keys.trusted)] == ["Bob"]
