"""Who works at what: the seats of an engine as its owner sees them, with what they take of the machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

_TICK, _PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class Worker(NamedTuple):
    """A worker: free, or at a `job` of a `run` since `since` (seconds of a monotonic clock).

    `seconds` of processor time and `memory` bytes are what its process took so far and holds now.
    """

    number: int
    job: str = ""
    run: str = ""
    since: float = 0.0
    device: str = "cpu"
    pid: int | None = None
    seconds: float = 0.0
    memory: int = 0


def load_of(pid: int | None) -> tuple[float, int]:
    """Processor seconds that a process took and bytes that it holds; nothing of one that is gone."""
    if pid is None:
        return 0.0, 0
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0, 0
    return (int(fields[11]) + int(fields[12])) / _TICK, pages * _PAGE
