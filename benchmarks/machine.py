"""The machine, and what processes take of it: read from /proc."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

MIB = 1 << 20
TICK = os.sysconf("SC_CLK_TCK")


def describe() -> str:
    """Processor, cores, memory, load, versions: what a figure has to be read with."""
    model = next((line.partition(": ")[2] for line in _lines("cpuinfo") if line.startswith("model name")), "unknown")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)
    release = platform.release().partition("-")[0]
    return (
        f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {platform.system()} {release}, "
        f"CPython {platform.python_version()}, load {load()}"
    )


def load() -> str:
    """Load average over 1, 5 and 15 minutes."""
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


class Usage(NamedTuple):
    """Memory in MB (10**6 bytes) and processor seconds of some processes together.

    `rss` counts a page that two share twice, `pss` half for each.
    """

    rss: float
    pss: float
    cpu: float
    processes: int


def usage(pids: Iterable[int]) -> Usage:
    """What these processes take at this moment."""
    each = [_usage(pid) for pid in pids]
    return Usage(sum(u.rss for u in each), sum(u.pss for u in each), sum(u.cpu for u in each), len(each))


def _usage(pid: int) -> Usage:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    rollup = dict(line.split(":", 1) for line in _lines(f"{pid}/smaps_rollup")[1:])
    rss, pss = (int(rollup[name].split()[0]) * 1024 / 1e6 for name in ("Rss", "Pss"))
    return Usage(rss, pss, (int(fields[11]) + int(fields[12])) / TICK, 1)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Processor seconds so far, from the scheduler's own books: to a nanosecond, where `usage` knows ticks of 10 ms."""
    threads = (thread for pid in pids for thread in Path(f"/proc/{pid}/task").iterdir())
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def tree(pid: int) -> list[int]:
    """A process and all that came of it."""
    found = [pid]
    for parent in found:
        for thread in Path(f"/proc/{parent}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found


def mapped(pid: int, *words: str) -> list[str]:
    """Which of these words are in the name of a file that the process has mapped."""
    names = {line.split(maxsplit=5)[5] for line in _lines(f"{pid}/maps") if line.count("/")}
    return [word for word in words if any(f"/{word}" in name for name in names)]


def peak_rss(pid: int) -> float:
    """The most memory that a process ever had resident, MB."""
    return next(int(line.split()[1]) for line in _lines(f"{pid}/status") if line.startswith("VmHWM")) * 1024 / 1e6


def forget_peak(pid: int) -> None:
    """Let `peak_rss` begin anew from what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _lines(name: str) -> list[str]:
    return Path("/proc", name).read_text().splitlines()
