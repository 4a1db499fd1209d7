from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.wire.problems import WorkerFailed
from grid.worker.spill import PIECE, Spill


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    with tempfile.TemporaryFile(dir=tmp_path) as file:
        yield file.fileno()


def spilled(file: int, *updates: bytes) -> Spill:
    spill = Spill(file, len(updates[0]))
    for update in updates:
        spill.append(memoryview(update))
    return spill


def part(spill: Spill, index: int, begin: int, length: int) -> bytes:
    target = memoryview(bytearray(length))
    spill.read(index, begin, target)
    return bytes(target)


@given(st.integers(0, 2), st.integers(0, 999), st.integers(0, 1000))
@settings(deadline=None)
def test_any_part_of_any_update_comes_back(index: int, begin: int, length: int) -> None:
    updates = [bytes([(number + place) % 251 for place in range(1000)]) for number in range(3)]
    length = min(length, 1000 - begin)
    with tempfile.TemporaryFile() as file:
        spill = spilled(file.fileno(), *updates)

        assert part(spill, index, begin, length) == updates[index][begin : begin + length]


def test_pieces_of_a_large_update_meet_without_a_seam(file: int) -> None:
    update = os.urandom(2 * PIECE + 17)
    spill = spilled(file, update, update)

    assert part(spill, 1, 0, len(update)) == update
    assert part(spill, 0, 5, 2 * PIECE) == update[5 : 2 * PIECE + 5]


def test_what_is_on_disk_says_nothing_not_even_that_two_are_equal(file: int) -> None:
    update = bytes(4096)
    spilled(file, update, update)
    first, second = os.pread(file, 4096, 0), os.pread(file, 4096, 4096)

    assert len({first, second, update}) == 3
    assert len(set(first)) > 200


def test_a_new_round_writes_over_the_last_one_with_another_key(file: int) -> None:
    spill = spilled(file, bytes(4096))
    before = os.pread(file, 4096, 0)
    spill.clear()
    assert len(spill) == 0
    spill.append(memoryview(bytes(4096)))

    assert os.pread(file, 4096, 0) != before
    assert part(spill, 0, 0, 4096) == bytes(4096)


def test_a_full_disk_is_said_in_words() -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, pytest.raises(WorkerFailed, match="room on disk"):
        spilled(full.fileno(), bytes(100))
