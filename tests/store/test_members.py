from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest

from grid.crypto.identity import Identity
from grid.protocol.documents import sign_document
from grid.protocol.membership import ONLINE, Answered, Member, Renewed, advance, joined
from grid.store import members
from grid.store.database import Database
from grid.store.members import Reserved, Row
from grid.wire.directory import NODE_RECORD, NodeRecord

KEY = Identity.from_seed(b"a" * 32)
RECORD = sign_document(
    KEY, NODE_RECORD, NodeRecord(node_id="alpha", node_address="http://alpha:5001", version=7, expires=1e9)
)
ALPHA = Row(joined("alpha", 0.0, 90.0, verified=True), "http://alpha:5001", RECORD, b"prekey")
BETA = Row(joined("beta", 0.0, 90.0, verified=False), "http://beta:5001")


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "gateway") as db:
        for row in (BETA, ALPHA):
            await db.write(lambda c, row=row: members.put(c, [row]))
        yield db


async def test_members_come_back_as_they_were_put_with_what_they_signed(db: Database) -> None:
    assert await db.read(members.all_members) == [ALPHA, BETA]


async def test_a_member_that_joins_again_is_listed_once(db: Database) -> None:
    moved = msgspec.structs.replace(BETA, address="http://elsewhere:5001")

    await db.write(lambda c: members.put(c, [moved]))

    assert await db.read(members.all_members) == [ALPHA, moved]


async def test_many_leases_are_saved_in_one_go_and_nobody_is_listed_by_it(db: Database) -> None:
    alpha, _ = advance(ALPHA.member, Answered(5.0, latency=0.02))
    beta, _ = advance(BETA.member, Renewed(10.0, lease=90.0))

    await db.write(lambda c: members.save(c, [alpha, beta, Member("ghost", 100.0, verified=False)]))

    saved = [row.member for row in await db.read(members.all_members)]
    assert saved == [alpha, beta]
    assert [m.state for m in saved] == [ONLINE, ONLINE]


async def test_an_id_is_kept_for_its_key_and_given_up_by_a_new_join_or_in_time(db: Database) -> None:
    kept = Reserved("alpha", KEY.id, version=7, until=1000.0)
    await db.write(lambda c: members.reserve(c, [kept]))
    assert await db.read(members.all_members) == [BETA]
    assert await db.read(members.all_reserved) == [kept]

    await db.write(lambda c: members.put(c, [ALPHA]))
    assert await db.read(members.all_reserved) == []

    await db.write(lambda c: members.reserve(c, [kept]))
    await db.write(lambda c: members.forget(c, ["alpha", "beta"]))
    assert await db.read(lambda c: (members.all_members(c), members.all_reserved(c))) == ([], [])
