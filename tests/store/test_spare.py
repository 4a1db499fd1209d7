"""Files that are done with: one that nobody reads is written over, any other is left to its readers."""

from __future__ import annotations

import mmap
from pathlib import Path

from grid.store.spare import spare


def test_a_file_that_nobody_reads_is_taken_aside_and_keeps_its_room(tmp_path: Path) -> None:
    (tmp_path / "model-1").write_bytes(b"old")
    room = (tmp_path / "model-1").stat().st_ino

    aside = spare(tmp_path / "model-1", "spare")

    assert aside == tmp_path / "spare"
    assert (aside.stat().st_ino, [path.name for path in tmp_path.iterdir()]) == (room, ["spare"])


def test_one_that_is_read_is_removed_and_its_reader_reads_on(tmp_path: Path) -> None:
    (tmp_path / "model-1").write_bytes(b"old")

    with (tmp_path / "model-1").open("rb") as reader:
        assert spare(tmp_path / "model-1", "spare") is None
        assert reader.read() == b"old"

    assert list(tmp_path.iterdir()) == []


def test_one_that_is_mapped_is_read(tmp_path: Path) -> None:
    (tmp_path / "model-1").write_bytes(b"old")
    with (tmp_path / "model-1").open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    assert spare(tmp_path / "model-1", "spare") is None
    assert pages[:] == b"old"


def test_where_there_is_none_there_is_no_spare(tmp_path: Path) -> None:
    assert spare(tmp_path / "model-1", "spare") is None
