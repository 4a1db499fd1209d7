"""The table of jobs that a zygote offers, by what it has loaded.

`numpy` sums; `torch` trains as well; `linear` trains linear plans with numpy, where torch is not installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from grid.worker.fold_job import fold, warm_up
from grid.worker.seat import Job
from grid.worker.train_job import Kit, training_with


def load(preload: str) -> Mapping[str, Job]:
    """Import what the jobs need and let it warm up: in its sandbox a seat can import nothing more."""
    warm_up()
    if preload == "numpy":
        return {"fold": fold}
    if preload == "torch":
        return _torch()
    return {"fold": fold, "train": training_with(_numpy())}


def _torch() -> Mapping[str, Job]:
    from grid.learning import client_rules, state, torch_sums, training  # these import torch

    training.warm_up()
    torch_sums.warm_up()
    kit = Kit(training.Trainer, state.tensor_views, client_rules.finish)
    return {"fold": partial(fold, add_scaled=torch_sums.add_scaled), "train": training_with(kit)}


def _numpy() -> Kit:
    from grid.learning import arrays, numpy_training

    numpy_training.warm_up()
    return Kit(numpy_training.Trainer, arrays.views, numpy_training.finish)
