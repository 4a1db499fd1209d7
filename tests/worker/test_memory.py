"""Memory that two processes share keeps its size, whatever one of them tries."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from grid.worker.memory import SharedMemory, map_file, map_shared


def test_both_sides_see_the_same_bytes() -> None:
    memory = SharedMemory("inbox", 8)
    theirs = map_shared(os.dup(memory.descriptor))
    memory.view[:] = b"12345678"

    assert bytes(theirs[:8]) == b"12345678"
    memory.close()
    assert bytes(theirs[:8]) == b"12345678"


@pytest.mark.parametrize("size", [0, 4096, 1 << 20])
def test_neither_side_can_change_the_size(size: int) -> None:
    memory = SharedMemory("outbox", 100)

    with pytest.raises(PermissionError):
        os.ftruncate(memory.descriptor, size)
    with pytest.raises(PermissionError):
        os.pwrite(memory.descriptor, b"x", 100)
    memory.close()


def test_a_slice_that_a_caller_keeps_outlives_the_close() -> None:
    memory = SharedMemory("outbox", 4)
    memory.view[:] = b"kept"
    kept = memory.view[1:3]
    memory.close()
    memory.close()

    assert bytes(kept) == b"ep"


def test_a_file_is_mapped_privately(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(b"rows")
    view = map_file(os.open(path, os.O_RDONLY))
    view[:] = b"gone"

    assert path.read_bytes() == b"rows"


FAULTS = """
import resource
from grid.worker.memory import keep_freed
{}
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(64 << 20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults()
print(faults(), kept)
"""


def test_memory_that_was_freed_is_had_again_without_a_page_fault() -> None:
    def faults(kept: str) -> tuple[int, bool]:
        code = FAULTS.format(f"kept = {kept}")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
        count, _, told = done.stdout.partition(" ")
        return int(count), told.strip() == "True"

    usual, _ = faults("False")
    after, kept = faults("keep_freed()")

    assert (after * 10 < usual) == kept
