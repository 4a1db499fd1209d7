"""Jobs and engines for the tests of this room."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grid.worker.engine import Limits, LocalEngine
from grid.worker.port import Priority, Work

MIB = 1 << 20
ENOUGH = Limits(memory=512 * MIB, cpu=30, wall=30)


@dataclass(frozen=True)
class Errands:
    """The job of `errand_jobs`."""

    files: Mapping[str, Path] = field(default_factory=dict)
    model_bytes: int = 16
    limits: Limits = ENOUGH
    greeting: str = "hello"
    state_bytes: int = 0
    spill_bytes: int = 0
    priority: Priority = Priority.TRAINING
    run: str = ""
    accelerable: bool = False

    def work(self) -> Work:
        arguments = {"greeting": self.greeting}
        sizes = (self.model_bytes, self.state_bytes, self.spill_bytes)
        return Work("errands", arguments, self.files, *sizes, self.priority, self.run, self.accelerable)


def errand_engine(scratch: Path, **settings: Any) -> LocalEngine:
    settings = {"preload": "numpy", "seats": 2, "jobs": "tests.worker.errand_jobs"} | settings
    return LocalEngine(scratch=scratch, **settings)


async def has_ended(pid: int) -> None:
    """Return when the process is gone; the kernel says so, no clock does."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(handle, ended.set)
    async with asyncio.timeout(10):
        await ended.wait()
    asyncio.get_running_loop().remove_reader(handle)
    os.close(handle)
