from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from msgspec.structs import replace

from grid.gateway.claim import read_claim
from grid.gateway.kept import KeptLog, KeptMembers
from grid.gateway.log import Log
from grid.protocol.membership import OFFLINE, joined
from grid.protocol.transparency import read_entry
from grid.store.database import Database
from grid.store.members import Reserved
from tests.gateway.conftest import GATEWAY
from tests.gateway.fakes import START, Key, rfc

ALICE = Key(1)
CLAIM = read_claim(ALICE.join("alice", "#x", "#y", models=("resnet",)), START)
BOB = read_claim(rfc("Bob"), START)


def kept_in(database: Database) -> KeptMembers:
    return KeptMembers(database, Log(KeptLog(database), GATEWAY, lambda: START))


async def test_what_is_kept_comes_back_as_it_was(tmp_path: Path) -> None:
    alice, bob = joined("alice", START, 90.0, verified=True), joined("Bob", START, 90.0, verified=False)
    async with Database(tmp_path / "gateway.db", "gateway") as database:
        await kept_in(database).put(alice, CLAIM)
        await kept_in(database).put(bob, BOB)

    async with Database(tmp_path / "gateway.db", "gateway") as database:
        members, reserved = await kept_in(database).load()

    assert sorted(members, key=lambda kept: kept[0].node) == [(bob, BOB), (alice, CLAIM)]
    assert reserved == []


async def test_states_reservations_and_free_ids_are_saved_together(tmp_path: Path) -> None:
    alice, bob = joined("alice", START, 90.0, verified=True), joined("Bob", START, 90.0, verified=False)
    async with Database(tmp_path / "gateway.db", "gateway") as database:
        kept = kept_in(database)
        await kept.put(alice, CLAIM)
        await kept.put(bob, BOB)
        left = Reserved("alice", ALICE.id, CLAIM.version, START + 9)

        await kept.save([replace(bob, state=OFFLINE)], [left], [])
        members, reserved = await kept.load()
        assert [member.state for member, _ in members] == [OFFLINE]
        assert reserved == [left]

        await kept.save([], [], ["alice", "Bob"])
        assert await kept.load() == ([], [])


async def test_a_write_that_fails_fails_for_all_who_wait_and_for_nobody_after(tmp_path: Path) -> None:
    bob = joined("Bob", START, 90.0, verified=False)
    async with Database(tmp_path / "gateway.db", "gateway") as database:
        kept = kept_in(database)
        bad = replace(bob, lease_ends=None)  # no row may be so
        together = await asyncio.gather(kept.put(bob, BOB), kept.put(bad, BOB), return_exceptions=True)
        await kept.put(bob, BOB)

        assert [isinstance(outcome, Exception) for outcome in together] == [True, True]
        assert (await kept.load())[0] == [(bob, BOB)]


async def test_a_member_and_its_entry_in_the_log_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    alice = joined("alice", START, 90.0, verified=True)
    async with Database(tmp_path / "gateway.db", "gateway") as database:
        log = Log(KeptLog(database), GATEWAY, lambda: START)
        kept = KeptMembers(database, log)
        with pytest.raises(sqlite3.IntegrityError):
            await kept.put(replace(alice, lease_ends=None), CLAIM)  # no row may be so
        assert await KeptLog(database).load() == []
        assert not log.has("alice", ALICE.id)

        await asyncio.gather(kept.put(alice, CLAIM), kept.put(alice, CLAIM))
        await kept.put(alice, CLAIM)

        (entry,) = await KeptLog(database).load()
        assert read_entry(entry).public_key == ALICE.id
        assert log.has("alice", ALICE.id)


async def test_whoever_leaves_while_joining_is_gone(tmp_path: Path) -> None:
    async with Database(tmp_path / "gateway.db", "gateway") as database:
        kept = kept_in(database)
        join = asyncio.create_task(kept.put(joined("Bob", START, 90.0, verified=False), BOB))
        await asyncio.sleep(0)

        await kept.save([], [], ["Bob"])
        await join

        assert await kept.load() == ([], [])


async def test_a_caller_who_hangs_up_undoes_nothing(tmp_path: Path) -> None:
    async with Database(tmp_path / "gateway.db", "gateway") as database:
        kept = kept_in(database)
        bob, alice = joined("Bob", START, 90.0, verified=False), joined("alice", START, 90.0, verified=True)
        join = asyncio.create_task(kept.put(bob, BOB))
        await asyncio.sleep(0)
        join.cancel()
        await kept.put(alice, CLAIM)

        assert {member.node for member, _ in (await kept.load())[0]} == {"Bob", "alice"}
