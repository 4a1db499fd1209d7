"""The real job table with errands beside it, for seats with a real GPU. Imported by a zygote with torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from grid.worker import jobs
from grid.worker.seat import Desk, Table, Verb
from tests.worker.errand_jobs import errands


def on_gpu(desk: Desk, greeting: str = "") -> Mapping[str, Verb]:
    """The errands, and what CUDA says of the GPU's memory."""
    held: list[torch.Tensor] = []

    def free() -> dict[str, Any]:
        return {"bytes": torch.cuda.mem_get_info()[0]}

    def hold(size: int) -> dict[str, Any]:
        held.append(torch.zeros(size, dtype=torch.uint8, device=desk.device))
        return free()

    return {**errands(desk, greeting), "free": free, "hold": hold}


def load(preload: str) -> Table:
    table = jobs.load(preload)
    return Table({**table.jobs, "errands": on_gpu}, table.settle)
