"""Jobs and engines for the tests of this room."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grid.worker.engine import Limits, LocalEngine
from grid.worker.port import Work

MIB = 1 << 20


@dataclass(frozen=True)
class Errands:
    """The job of `errand_jobs`."""

    files: Mapping[str, Path] = field(default_factory=dict)
    model_bytes: int = 16
    limits: Limits = Limits(memory=512 * MIB, cpu=30, wall=30)
    greeting: str = "hello"

    def work(self) -> Work:
        return Work("errands", {"greeting": self.greeting}, self.files, self.model_bytes)


def errand_engine(scratch: Path, **settings: Any) -> LocalEngine:
    settings = {"preload": "numpy", "seats": 2, "jobs": "tests.worker.errand_jobs"} | settings
    return LocalEngine(scratch=scratch, **settings)
