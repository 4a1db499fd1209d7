"""A job table whose seats may have a GPU, but for the GPU. Imported by a zygote."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from grid.wire.problems import GpuFailed
from grid.worker.channel import GpuShare
from grid.worker.seat import Desk, Table, Verb
from tests.worker.errand_jobs import errands


def settle(given: GpuShare | None) -> None:
    """Open what stands for a GPU: start a thread, as CUDA does, and note what was asked for."""
    os.environ["GIVEN"] = "none" if given is None else f"{given.gpu} {given.share:g}"
    if given is None:
        return
    if given.gpu == "broken":
        raise GpuFailed("CUDA driver version is insufficient")
    if given.gpu == "deadly":
        os._exit(9)
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def on_gpu(desk: Desk, greeting: str = "") -> Mapping[str, Verb]:
    """The errands, and some that know of a device."""

    def compute() -> dict[str, Any]:
        if desk.device != "cpu":
            raise GpuFailed("CUDA out of memory")
        return {"device": desk.device}

    def die() -> dict[str, Any]:
        if desk.device != "cpu":
            os._exit(9)
        return {"device": desk.device}

    return {**errands(desk, greeting), "compute": compute, "die": die}


def load(preload: str) -> Table:
    return Table({"errands": on_gpu}, settle)
