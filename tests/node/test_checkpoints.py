"""Checkpoints on disk: whole or not at all, the newest two."""

from __future__ import annotations

from pathlib import Path

import pytest

from grid.learning.tensors import Layout, TensorSpec, read_header
from grid.node.checkpoints import UPDATES, Checkpoints, sweep

LAYOUT = Layout([TensorSpec("w", "F32", (4,))])


async def test_a_checkpoint_is_a_file_of_tensors_that_only_its_owner_reads(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, LAYOUT)

    path = await checkpoints.write(0, [memoryview(b"12345678"), memoryview(b"abcdefgh")])

    layout, _, offset = read_header(path.read_bytes(), total=path.stat().st_size)
    assert (layout, path.read_bytes()[offset:]) == (LAYOUT, b"12345678abcdefgh")
    assert path.stat().st_mode & 0o777 == 0o600
    assert checkpoints.newest == 0


async def test_two_checkpoints_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, LAYOUT)
    for number in range(5):
        await checkpoints.write(number, [memoryview(bytes([number]) * 16)])

    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3.safetensors", "checkpoint-4.safetensors"]


async def test_a_checkpoint_is_written_over_the_one_that_it_drives_out(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, LAYOUT)
    await checkpoints.write(0, [memoryview(bytes(16))])
    checkpoints.path(0).write_bytes(bytes(1000))
    room = checkpoints.path(0).stat().st_ino
    await checkpoints.write(1, [memoryview(bytes(16))])

    path = await checkpoints.write(2, [memoryview(b"12345678abcdefgh")])

    assert path.stat().st_ino == room
    assert path.read_bytes() == checkpoints.head + b"12345678abcdefgh"


async def test_the_best_one_and_one_that_is_being_read_are_not_written_over(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, LAYOUT)
    for number in (0, 1):
        await checkpoints.write(number, [memoryview(bytes([number]) * 16)])
    checkpoints.keep(0)

    await checkpoints.write(2, [memoryview(bytes([2]) * 16)])
    with checkpoints.path(1).open("rb") as reader:
        await checkpoints.write(3, [memoryview(bytes([3]) * 16)])
        assert reader.read()[-16:] == bytes([1]) * 16

    assert checkpoints.path(0).read_bytes()[-16:] == bytes(16)
    assert not checkpoints.path(1).exists()


async def test_a_write_that_fails_leaves_the_newest_as_it_was(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, LAYOUT)
    await checkpoints.write(0, [memoryview(bytes(16))])
    (tmp_path / "checkpoint-1.draft").mkdir()

    with pytest.raises(OSError, match="directory"):
        await checkpoints.write(1, [memoryview(bytes(16))])

    assert checkpoints.newest == 0
    assert checkpoints.path(0).exists()
    assert not checkpoints.path(1).exists()


async def test_of_a_run_that_is_over_only_checkpoints_stay(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, LAYOUT)
    await checkpoints.write(0, [memoryview(bytes(16))])
    (tmp_path / UPDATES / "named").mkdir(parents=True)
    for name in ("bundle.sealed", "model-3.sealed", "checkpoint-1.draft", f"{UPDATES}/named/3-ann"):
        (tmp_path / name).write_bytes(b"x")

    checkpoints.sweep()
    sweep(tmp_path / "never-was")

    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-0.safetensors"]
