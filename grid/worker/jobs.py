"""The table of jobs that a zygote offers, by what it has loaded: aggregation with numpy, and training with torch."""

from __future__ import annotations

from collections.abc import Mapping

from grid.worker.fold_job import fold, warm_up
from grid.worker.seat import Job


def load(preload: str) -> Mapping[str, Job]:
    """Import what the jobs need and let it warm up: in its sandbox a seat can import nothing more."""
    warm_up()
    if preload != "torch":
        return {"fold": fold}
    from grid.worker import train_job  # this imports torch

    train_job.warm_up()
    return {"fold": fold, "train": train_job.train}
