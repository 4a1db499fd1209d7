"""Trainings in sandboxed seats on a real GPU. Skipped where there is none."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import torch

from grid.learning.plan import Plan
from grid.learning.recipe import Limits as Grant
from grid.learning.recipe import Sgd
from grid.wire.problems import CaptureFailed, GpuFailed, WorkerLost
from grid.worker.engine import Device, Limits, LocalEngine, LocalSeat, TrainJob, capabilities
from grid.worker.gpus import Gpu, here
from tests.learning.architectures import ALL, Case
from tests.worker.errands import MIB, Errands
from tests.worker.samples import bundle_file, dataset_file, separable

GPUS = here(os.environ).gpus
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.skipif(not GPUS, reason=here(os.environ).why),
]
GIB = 1 << 30
LIMITS = Limits(memory=2 * GIB, wall=60, cpu=60)
RULE = Sgd(lr=0.05, momentum=0.9)
PLANS = {
    "linear": (Plan.linear(8, 2, epochs=3, optimizer=RULE, metrics=("accuracy",)), 8),
    "mlp": (Plan.mlp([8, 64, 64, 2], epochs=3, optimizer=RULE, metrics=("accuracy",)), 8),
    "cnn": (Plan.cnn((1, 8, 8), 2, channels=(8, 16), hidden=16, epochs=1, optimizer=RULE), 64),
}
ERRANDS = Errands(accelerable=True, limits=LIMITS)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEngine]:
    """Seats on the first GPU only: a job that fails there fails."""
    scratch = tmp_path_factory.mktemp("scratch")
    engine = LocalEngine(
        "torch", 8, scratch, jobs="tests.worker.on_gpu_jobs", gpus=GPUS[:1], gpu_seats=2, device=Device.CUDA
    )
    yield engine
    await engine.close()


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def processor(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEngine]:
    """Seats without a GPU, on the same machine."""
    engine = LocalEngine("torch", 2, tmp_path_factory.mktemp("scratch"))
    yield engine
    await engine.close()


def job(folder: Path, plan: Plan, width: int) -> TrainJob:
    tensors = separable(folder / "tensors", width=width)
    return TrainJob(bundle_file(folder / "bundle", plan), tensors, ("features",), "target", limits=LIMITS)


async def trained(engine: LocalEngine, work: TrainJob, plan: Plan) -> tuple[bytes, dict[str, float]]:
    seat = await engine.open(work)
    size = plan.layout.size
    seat.inbox[:size] = plan.initial
    await seat.call("fit", round=1)
    seat.inbox[:size] = seat.outbox[:size]
    measured = await seat.call("evaluate")
    model = bytes(seat.outbox[:size])
    await seat.close()
    return model, measured["metrics"]


@pytest.mark.parametrize("name", PLANS)
async def test_a_gpu_trains_what_the_processor_trains_and_its_own_bits_again(
    engine: LocalEngine, processor: LocalEngine, tmp_path: Path, name: str
) -> None:
    plan, width = PLANS[name]
    work = job(tmp_path, plan, width)
    (there, score), (again, _), (here_, wanted) = [
        await trained(each, work, plan) for each in (engine, engine, processor)
    ]

    assert there == again
    assert there != plan.initial
    np.testing.assert_allclose(np.frombuffer(there, np.float32), np.frombuffer(here_, np.float32), atol=1e-4, rtol=1e-3)
    assert score["loss"] == pytest.approx(wanted["loss"], rel=1e-3)


@pytest.mark.parametrize("make", ALL, ids=lambda make: make.__name__)
async def test_each_architecture_finds_all_it_needs_inside_the_sandbox(
    engine: LocalEngine, tmp_path: Path, make: Callable[[], Case]
) -> None:
    torch.manual_seed(0)
    module, example = make()
    try:
        plan = Plan.capture(module, example, loss="mse", optimizer=RULE, batch=4, minimum_examples=1)
    except CaptureFailed as refused:  # before any GPU: releases of torch trace some modules differently
        pytest.skip(f"torch {torch.__version__}: {refused.detail}")
    outputs = module(*example)
    first = outputs if isinstance(outputs, torch.Tensor) else outputs[0]
    names = [f"in{place}" for place in range(len(example))]
    arrays = {name: torch.cat([each] * 4).numpy() for name, each in zip(names, example, strict=True)}
    arrays["target"] = torch.zeros_like(torch.cat([first.detach()] * 4)).numpy()
    tensors = dataset_file(tmp_path / "tensors", **arrays)
    bundle, grant = bundle_file(tmp_path / "bundle", plan), Grant(minimum_batch=1, minimum_examples=1)
    work = TrainJob(bundle, tensors, tuple(names), "target", holdout=0.0, limits=LIMITS, grant=grant)

    seat = await engine.open(work)
    seat.inbox[:] = plan.initial
    fitted = await seat.call("fit", round=1, epochs=1)

    assert fitted["steps"] > 0
    assert bytes(seat.outbox) != plan.initial
    await seat.close()


async def test_two_seats_share_one_gpu_and_each_keeps_to_its_part(engine: LocalEngine) -> None:
    one, other = await engine.open(ERRANDS), await engine.open(ERRANDS)
    assert one.device == other.device == str(GPUS[0])
    total = (await one.call("free"))["bytes"]

    assert (await one.call("hold", size=MIB * 256))["bytes"] < total
    with pytest.raises(Exception, match="OutOfMemoryError"):
        await other.call("hold", size=total * 3 // 4)
    assert (await one.call("hello"))["greeting"] == "hello"
    await one.close()
    await other.close()


@pytest.mark.skipif(not capabilities().complete, reason=f"this kernel offers {capabilities()}")
async def test_a_seat_with_a_gpu_may_not(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"private")
    seat = await engine.open(ERRANDS)
    for what in (
        "read a file", "list a folder", "write a file", "map a device", "connect", "listen", "start a program",
        "start a child", "make a socket pair", "make a memory file", "kill", "take a limit off", "become untraced",
        "read foreign memory", "look at another process",
    ):  # fmt: skip
        answer = await seat.call("attempt", what=what, target=str(tmp_path / "kept"), number=os.getpid())
        assert answer["refused"] == "PermissionError", what
    with pytest.raises(Exception, match="bytes of memory"):
        await seat.call("allocate", size=20 * GIB)
    await seat.close()


async def test_a_killed_seat_gives_the_memory_of_its_gpu_back(engine: LocalEngine) -> None:
    watcher, seat = await engine.open(ERRANDS), await engine.open(ERRANDS)
    before = (await watcher.call("free"))["bytes"]
    await seat.call("hold", size=4 * GIB)
    assert (await watcher.call("free"))["bytes"] <= before - 4 * GIB

    with pytest.raises(WorkerLost, match="SIGKILL"):
        await seat.call("linger", lambda _: os.kill(seat.pid or 0, signal.SIGKILL), seconds=30)

    await seat.close()
    assert (await watcher.call("free"))["bytes"] >= before - GIB // 8
    await watcher.close()


def too_large(folder: Path) -> tuple[TrainJob, Plan]:
    plan = Plan.mlp([8, 4096, 4096, 2], epochs=1, optimizer=RULE)
    return job(folder, plan, 8), plan


def a_sliver(scratch: Path, device: Device) -> LocalEngine:
    """Seats with a thousandth of a GPU's memory."""
    return LocalEngine("torch", 2, scratch, gpus=GPUS[:1], gpu_seats=1000, device=device)


async def begun(seat: LocalSeat, plan: Plan) -> dict[str, object]:
    seat.inbox[:] = plan.initial
    return await seat.call("fit", round=1, steps=1)


async def test_a_model_that_the_gpu_has_no_room_for_is_trained_on_the_processor(tmp_path: Path) -> None:
    engine, (work, plan) = a_sliver(tmp_path, Device.AUTO), too_large(tmp_path)
    work = TrainJob(work.bundle, work.tensors, work.inputs, work.target, limits=LIMITS, run="large")
    seat = await engine.open(work)
    with pytest.raises(WorkerLost, match="memory of the GPU"):
        await begun(seat, plan)
    await seat.close()

    seat = await engine.open(work)
    assert seat.device == "cpu"
    assert (await begun(seat, plan))["steps"] == 1
    await engine.close()


async def test_where_only_gpus_will_do_it_fails_and_says_why(tmp_path: Path) -> None:
    engine, (work, plan) = a_sliver(tmp_path, Device.CUDA), too_large(tmp_path)
    with pytest.raises(GpuFailed, match="memory of the GPU"):
        await begun(await engine.open(work), plan)
    await engine.close()


async def test_a_gpu_that_is_not_there_is_a_reason_and_no_crash(tmp_path: Path) -> None:
    engine = LocalEngine("torch", 1, tmp_path, gpus=(Gpu("77"),), device=Device.CUDA)
    with pytest.raises(GpuFailed, match=r"CUDA|GPU"):
        await engine.open(job(tmp_path, *PLANS["linear"]))
    await engine.close()
