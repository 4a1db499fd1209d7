"""The table of jobs that a zygote offers, by what it has loaded.

`numpy` sums, and answers questions; `torch` trains as well; `linear` trains linear plans with numpy, where torch is not
installed.
"""

from __future__ import annotations

from functools import partial

from grid.worker.analysis_job import analyse
from grid.worker.channel import GpuShare
from grid.worker.evaluation_job import evaluation_with
from grid.worker.fold_job import fold, warm_up
from grid.worker.predict_job import predicting_with
from grid.worker.seat import Job, Table
from grid.worker.train_job import Kit, training_with

_SUMS: dict[str, Job] = {"fold": fold, "analyse": analyse}


def _trainings(kit: Kit) -> dict[str, Job]:
    return {"train": training_with(kit), "evaluate": evaluation_with(kit), "predict": predicting_with(kit)}


def load(preload: str) -> Table:
    """Import what the jobs need and let it warm up: in its sandbox a seat can import nothing more."""
    warm_up()
    if preload == "numpy":
        return Table(dict(_SUMS))
    if preload == "torch":
        return _torch()
    return Table({**_SUMS, **_trainings(_numpy())})


def _torch() -> Table:
    """Where torch can do CUDA, no gradient is computed before the fork: it counts GPUs then, with threads of CUDA's."""
    from grid.learning import client_rules, cuda, predicting, state, torch_sums, training  # these import torch

    training.warm_up(gradients=not cuda.built())
    torch_sums.warm_up()
    kit = Kit(training.Trainer, state.tensor_views, client_rules.finish, predicting.predict)
    jobs: dict[str, Job] = {
        **_SUMS,
        "fold": partial(fold, add_scaled=torch_sums.add_scaled),
        **_trainings(kit),
    }

    def settle(given: GpuShare | None) -> None:
        if given is None:
            cuda.do_without()
        else:
            cuda.begin(given.gpu, given.share)

    return Table(jobs, settle if cuda.built() else None)


def _numpy() -> Kit:
    from grid.learning import arrays, numpy_training

    numpy_training.warm_up()
    return Kit(numpy_training.Trainer, arrays.views, numpy_training.finish, numpy_training.predict)
