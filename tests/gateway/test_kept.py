from __future__ import annotations

from pathlib import Path

from msgspec.structs import replace

from grid.gateway.claim import read_claim
from grid.gateway.kept import KeptMembers
from grid.protocol.membership import OFFLINE, joined
from grid.store.database import Database
from grid.store.members import Reserved
from tests.gateway.fakes import START, Key, rfc

ALICE = Key(1)
CLAIM = read_claim(ALICE.join("alice", "#x", "#y", models=("resnet",)), START)
BOB = read_claim(rfc("Bob"), START)


async def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    alice, bob = joined("alice", START, 90.0, verified=True), joined("Bob", START, 90.0, verified=False)
    async with Database(tmp_path / "gateway.db", "gateway") as database:
        await KeptMembers(database).put(alice, CLAIM)
        await KeptMembers(database).put(bob, BOB)

    async with Database(tmp_path / "gateway.db", "gateway") as database:
        members, reserved = await KeptMembers(database).load()

    assert sorted(members, key=lambda kept: kept[0].node) == [(bob, BOB), (alice, CLAIM)]
    assert reserved == []


async def test_states_reservations_and_free_ids_are_saved_together(tmp_path: Path) -> None:
    alice, bob = joined("alice", START, 90.0, verified=True), joined("Bob", START, 90.0, verified=False)
    async with Database(tmp_path / "gateway.db", "gateway") as database:
        kept = KeptMembers(database)
        await kept.put(alice, CLAIM)
        await kept.put(bob, BOB)
        left = Reserved("alice", ALICE.id, CLAIM.version, START + 9)

        await kept.save([replace(bob, state=OFFLINE)], [left], [])
        members, reserved = await kept.load()
        assert [member.state for member, _ in members] == [OFFLINE]
        assert reserved == [left]

        await kept.save([], [], ["alice", "Bob"])
        assert await kept.load() == ([], [])
