from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest

from grid.store.database import Database
from grid.store.keys import StoredPrekey, add_prekey, erase_prekeys
from grid.store.schema import Transaction, connect
from grid.wire.problems import Draining, NotFound


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(tmp_path / "grid.db", "node") as db:
        yield db


def add(name: str) -> object:
    return lambda c: c.execute("INSERT INTO pins (name, public_key, pinned) VALUES (?, '', 0)", (name,)).rowcount


def names(connection: sqlite3.Connection) -> list[str]:
    return [name for (name,) in connection.execute("SELECT name FROM pins ORDER BY name")]


async def test_what_was_written_is_read_by_everybody_afterwards(db: Database) -> None:
    assert await db.write(add("alpha")) == 1

    assert await db.read(names) == ["alpha"]
    assert db.read_now(names) == ["alpha"]


async def test_a_write_that_fails_is_undone_alone_and_its_caller_hears_why(db: Database) -> None:
    def fail(connection: Transaction) -> None:
        add("beta")(connection)
        raise NotFound("no such thing")

    outcomes = await asyncio.gather(
        db.write(add("alpha")), db.write(fail), db.write(add("gamma")), return_exceptions=True
    )

    assert outcomes[0] == outcomes[2] == 1
    assert isinstance(outcomes[1], NotFound)
    assert await db.read(names) == ["alpha", "gamma"]


async def test_writes_that_wait_together_are_committed_together(db: Database) -> None:
    gate, commits = threading.Event(), 0

    def count(_: object) -> None:
        nonlocal commits
        commits += 1

    def hold(connection: Transaction) -> None:
        connection.topics.add("t")
        gate.wait(10)

    db.on_commit.append(count)
    first = asyncio.ensure_future(db.write(hold))
    await asyncio.sleep(0)

    def mark(name: str) -> object:
        return lambda connection: (connection.topics.add("t"), add(name)(connection))

    others = [asyncio.ensure_future(db.write(mark(f"n{i:02}"))) for i in range(50)]
    await asyncio.sleep(0)
    assert not any(other.done() for other in others)
    gate.set()
    await asyncio.gather(first, *others)

    assert commits <= 2
    assert len(await db.read(names)) == 50


async def test_nobody_is_answered_before_the_commit(db: Database) -> None:
    """A reader of its own, at the moment of each answer, already sees the row."""

    async def one(name: str) -> None:
        await db.write(add(name))
        assert name in db.read_now(names)

    await asyncio.gather(*(one(f"n{i}") for i in range(20)))


async def test_a_commit_that_cannot_be_made_fails_every_write_in_it(db: Database) -> None:
    def undo_everything(connection: Transaction) -> None:
        connection.execute("ROLLBACK")  # as SQLite does by itself when the disk is full
        raise sqlite3.OperationalError("database or disk is full")

    outcomes = await asyncio.gather(
        db.write(add("alpha")), db.write(undo_everything), db.write(add("gamma")), return_exceptions=True
    )

    written = {name for name, o in zip(["alpha", "", "gamma"], outcomes, strict=True) if o == 1}
    assert written == set(await db.read(names))
    assert await db.write(add("later")) == 1


async def test_a_caller_that_no_longer_waits_disturbs_nobody(db: Database) -> None:
    impatient = asyncio.ensure_future(db.write(add("alpha")))
    await asyncio.sleep(0)
    impatient.cancel()

    await db.write(add("beta"))

    assert await db.read(names) == ["alpha", "beta"]


async def test_a_reader_sees_one_snapshot_and_cannot_write(db: Database) -> None:
    def look_twice(connection: sqlite3.Connection) -> tuple[list[str], list[str]]:
        before = names(connection)
        db.write_now(add("beta"))
        return before, names(connection)

    await db.write(add("alpha"))

    assert await db.read(look_twice) == (["alpha"], ["alpha"])
    assert await db.read(names) == ["alpha", "beta"]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await db.read(add("gamma"))


async def test_closing_finishes_what_is_queued_and_takes_nothing_more(tmp_path: Path) -> None:
    db = Database(tmp_path / "grid.db", "node")
    writes = [asyncio.ensure_future(db.write(add(f"n{i:03}"))) for i in range(600)]
    await asyncio.sleep(0)

    await db.close()
    await asyncio.gather(*writes)

    assert len(db.read_now(names)) == 600
    with pytest.raises(Draining):
        await db.write(add("late"))
    with pytest.raises(Draining):
        await db.read(names)
    await db.close()


async def test_more_writes_than_there_is_room_for_wait_their_turn(tmp_path: Path) -> None:
    async with Database(tmp_path / "grid.db", "node", waiting=2) as db:
        await asyncio.gather(*(db.write(add(f"n{i}")) for i in range(20)))

        assert len(await db.read(names)) == 20


async def test_a_database_without_a_path_leaves_nothing_behind() -> None:
    async with Database(None, "gateway") as db:
        await db.write(lambda c: c.execute("INSERT INTO reserved VALUES ('alpha', '', 0, 0)"))
        assert db.path.exists()

    assert not db.path.parent.exists()


async def test_an_erased_secret_is_neither_in_the_file_nor_in_its_log(db: Database) -> None:
    secret = b"the private half of a prekey, 48 bytes or so long"
    await db.write(lambda c: add_prekey(c, StoredPrekey(b"id", secret, b"", 0.0, 10.0)))
    assert any(secret in file.read_bytes() for file in db.path.parent.iterdir())

    assert await db.write(lambda c: erase_prekeys(c, before=11.0)) == 1

    assert not any(secret in file.read_bytes() for file in db.path.parent.iterdir())


# --- several processes, and their deaths --------------------------------------------------------

WRITER = """
import asyncio, os, signal, sys
from pathlib import Path
from grid.store.database import Database

def add(name):
    return lambda c: c.execute("INSERT INTO pins (name, public_key, pinned) VALUES (?, '', 0)", (name,))

async def main(path, who, count):
    async with Database(Path(path), "node") as db:
        async def one(i):
            await db.write(add(f"{who}{i}"))
            print(f"{who}{i}", flush=True)
        await asyncio.gather(*(one(i) for i in range(int(count))))
        DIE

asyncio.run(main(*sys.argv[1:]))
"""
HALFWAY = """
        def half(c):
            add("half")(c)
            c.execute("INSERT INTO trusted (public_key, name, since) VALUES ('half', '', 0)")
            os.kill(os.getpid(), signal.SIGKILL)
        await db.write(half)
"""


def process(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, *arguments], stdout=subprocess.PIPE, text=True)


def test_killed_between_write_and_commit_nothing_half_stays_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "grid.db"
    out, _ = process(WRITER.replace("        DIE", HALFWAY), str(path), "n", "100").communicate()

    with closing(connect(path)) as connection:
        assert set(names(connection)) == set(out.split())
        assert connection.execute("SELECT COUNT(*) FROM trusted").fetchone() == (0,)
    assert len(out.split()) == 100


def test_killed_at_any_moment_whatever_was_acknowledged_is_there(tmp_path: Path) -> None:
    path = tmp_path / "grid.db"
    writer = process(WRITER, str(path), "n", "20000")
    assert writer.stdout
    acknowledged = [writer.stdout.readline().strip() for _ in range(300)]
    writer.kill()
    acknowledged += [line.strip() for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
    writer.stdout.close()
    writer.wait()

    with closing(connect(path)) as connection:
        assert set(acknowledged) <= set(names(connection))


def test_two_processes_make_and_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "grid.db"
    both = [process(WRITER.replace("DIE", "pass"), str(path), who, "200") for who in "ab"]
    outs = [writer.communicate()[0] for writer in both]

    assert [writer.returncode for writer in both] == [0, 0]
    with closing(connect(path)) as connection:
        assert set(names(connection)) == set("".join(outs).split())
    assert len("".join(outs).split()) == 400
