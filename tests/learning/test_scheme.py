from __future__ import annotations

import mmap
import os
import tempfile
from pathlib import Path

from grid.learning.plan import Plan
from grid.learning.scheme import Scheme
from grid.learning.strategy import FEDAVG


def resident(inode: int) -> int:
    """Bytes of a mapped file that this process has in memory."""
    lines, taken, ours = Path("/proc/self/smaps").read_text().splitlines(), 0, False
    for line in lines:
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            ours = words[4] == str(inode)
        elif ours and words[0] == "Rss:":
            taken += int(words[1]) * 1024
    return taken


def test_the_first_model_can_leave_memory_and_be_read_again() -> None:
    plan = Plan.mlp([64, 2000, 500])
    with tempfile.TemporaryFile() as file:
        file.write(plan.bundle())
        file.flush()
        inode = os.fstat(file.fileno()).st_ino
        scheme = Scheme(Plan.from_bundle(memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))), FEDAVG)

        once, before = b"".join(scheme.first()), resident(inode)
        scheme.let_go()
        after, again = resident(inode), b"".join(scheme.first())

    assert once == again == plan.initial
    assert before > len(once) > 10 * after
