from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.store.blobs import DRAFTS, SPARE, Blobs, blob_path, named_path
from grid.wire.problems import Full, NotFound, TooLarge


@pytest.fixture
def blobs(tmp_path: Path) -> Blobs:
    return Blobs(tmp_path / "blobs")


def files(blobs: Blobs) -> list[Path]:
    return [path for path in blobs.folder.rglob("*") if path.is_file()]


async def test_a_file_is_found_by_the_digest_of_what_was_written(blobs: Blobs) -> None:
    draft = blobs.create()
    draft.write(b"sealed ")
    draft.write(memoryview(b"update"))
    path = await draft.commit()

    digest = hashlib.sha256(b"sealed update").hexdigest()
    assert (draft.digest, draft.size, path) == (digest, 13, blobs.path(digest))
    with blobs.open(digest) as file:
        assert file.read() == b"sealed update"
    assert files(blobs) == [path]


async def test_only_the_owner_can_read_files_and_folders(blobs: Blobs) -> None:
    draft = blobs.create()
    draft.write(b"x")
    path = await draft.commit()

    assert path.stat().st_mode & 0o777 == 0o600
    for folder in (blobs.folder, *(p for p in blobs.folder.rglob("*") if p.is_dir())):
        assert folder.stat().st_mode & 0o777 == 0o700


async def test_a_draft_is_readable_where_it_lies_before_it_is_committed(blobs: Blobs) -> None:
    draft = blobs.create()
    draft.write(b"look first")

    assert draft.path.read_bytes() == b"look first"
    draft.abort()


async def test_a_named_file_replaces_the_one_before_it(blobs: Blobs) -> None:
    for content in (b"old", b"new"):
        draft = blobs.create()
        draft.write(content)
        path = await draft.commit("checkpoint-1.sealed")

    assert path == blobs.named("checkpoint-1.sealed")
    assert path.read_bytes() == b"new"


async def test_a_draft_is_written_over_a_recycled_file_and_nothing_of_it_is_left(blobs: Blobs) -> None:
    old = blobs.create(hashed=False)
    old.write(b"a longer one")
    path = await old.commit("update-1")
    room = path.stat().st_ino
    blobs.recycle(path)
    Blobs(blobs.folder)  # another process that starts sweeps what nobody holds

    draft = blobs.create(hashed=False)
    draft.write(b"new")
    path = await draft.commit("update-2")

    assert (path.read_bytes(), path.stat().st_ino) == (b"new", room)
    assert files(blobs) == [path]


async def test_recycled_files_are_bounded_and_let_go(blobs: Blobs) -> None:
    for number in range(SPARE + 2):
        draft = blobs.create()
        draft.write(b"x")
        blobs.recycle(await draft.commit(f"update-{number}"))
    assert len(files(blobs)) == SPARE

    blobs.let_go()

    assert files(blobs) == []


async def test_the_same_content_twice_is_one_file(blobs: Blobs) -> None:
    for _ in range(2):
        draft = blobs.create()
        draft.write(b"same")
        await draft.commit()

    assert len(files(blobs)) == 1


async def test_a_draft_that_is_thrown_away_leaves_nothing_and_cannot_be_used(blobs: Blobs) -> None:
    draft = blobs.create()
    draft.write(b"x")
    draft.abort()
    draft.abort()

    assert files(blobs) == []
    with pytest.raises(ValueError, match="aborted"):
        draft.write(b"y")
    with pytest.raises(ValueError, match="aborted"):
        await draft.commit()


async def test_a_commit_that_has_begun_runs_to_its_end(blobs: Blobs) -> None:
    draft = blobs.create()
    draft.write(b"x")
    commit = asyncio.ensure_future(draft.commit())
    await asyncio.sleep(0)
    draft.abort()

    assert (await commit).read_bytes() == b"x"


def test_a_draft_longer_than_its_limit_is_refused_at_the_block_that_is_too_much(blobs: Blobs) -> None:
    draft = blobs.create(limit=4)
    draft.write(b"four")
    with pytest.raises(TooLarge):
        draft.write(b"!")

    assert (draft.size, draft.path.read_bytes()) == (4, b"four")
    draft.abort()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_said_to_be_full(blobs: Blobs) -> None:
    draft = blobs.create()
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), draft._open())

    with pytest.raises(Full):
        draft.write(b"x")
    draft.abort()


async def test_what_is_deleted_is_gone_but_for_those_who_read_it(blobs: Blobs) -> None:
    draft = blobs.create()
    draft.write(b"x")
    await draft.commit()
    with blobs.open(draft.digest) as reading:
        assert blobs.delete(draft.digest)
        assert reading.read() == b"x"

    assert not blobs.delete(draft.digest)
    with pytest.raises(NotFound):
        blobs.open(draft.digest)


@given(st.one_of(st.text(max_size=70), st.sampled_from(["..", "../x", "a/b", ".hidden", "0" * 63 + "\n", "x\0"])))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    for path_of in (blob_path, named_path):
        try:
            path = path_of(Path("/data/blobs"), name)
        except NotFound:
            continue
        assert Path(os.path.normpath(path)) == path
        assert path.is_relative_to("/data/blobs")
        assert path.name == name


ORPHAN = """
import sys
from pathlib import Path
from grid.store.blobs import Blobs
draft = Blobs(Path(sys.argv[1])).create()
draft.write(b"half an upd")
print(draft.path, flush=True)
sys.stdin.read()
"""


def test_a_start_sweeps_the_drafts_of_the_dead_and_spares_those_of_the_living(blobs: Blobs) -> None:
    other = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, str(blobs.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout
    draft = Path(other.stdout.readline().strip())

    Blobs(blobs.folder)
    assert draft.exists()

    other.kill()
    other.communicate()
    Blobs(blobs.folder)
    assert list((blobs.folder / DRAFTS).iterdir()) == []
