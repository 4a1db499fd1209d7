"""Seats with a GPU, and what becomes of a job when it fails there. What stands for the GPU is in `gpu_errands`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from grid.wire.problems import GpuFailed, WorkerFailed, WorkerLost
from grid.worker.engine import Device, Gpu, LocalEngine, capabilities
from tests.worker.errands import MIB, Errands, errand_engine

Engines = Callable[..., LocalEngine]
TRAINS = Errands(accelerable=True, run="r")


@pytest_asyncio.fixture
async def engines(tmp_path: Path) -> AsyncIterator[Engines]:
    """Makes engines with these GPUs; they end with the test."""
    async with AsyncExitStack() as stack:

        def make(*gpus: str, device: Device = Device.AUTO, seats: int = 4) -> LocalEngine:
            engine = errand_engine(
                tmp_path, seats=seats, jobs="tests.worker.gpu_errands", gpus=tuple(map(Gpu, gpus)), device=device
            )
            stack.push_async_callback(engine.close)
            return engine

        yield make


async def test_seats_share_the_gpus_and_the_rest_compute_on_the_processor(engines: Engines) -> None:
    engine = engines("0", "1", seats=6)
    opened = [await engine.open(TRAINS) for _ in range(5)]

    assert [seat.device for seat in opened] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cpu"]
    assert (await opened[1].call("hello"))["environment"]["GIVEN"] == "1 0.45"
    assert (await opened[4].call("hello"))["environment"]["GIVEN"] == "none"
    assert engine.status()["gpus"] == {"cuda:0": 2, "cuda:1": 2}
    await opened[0].close()
    assert engine.status()["gpus"] == {"cuda:0": 1, "cuda:1": 2}


async def test_a_job_that_adds_gets_no_gpu(engines: Engines) -> None:
    assert (await engines("0").open(Errands())).device == "cpu"


async def test_a_gpu_that_cannot_be_opened_costs_a_run_nothing_but_the_gpu(engines: Engines) -> None:
    engine = engines("broken")
    seat = await engine.open(TRAINS)

    assert seat.device == "cpu"
    assert await seat.call("compute") == {"device": "cpu"}
    assert engine.status()["gpus"] == {"cuda:broken": 0}
    assert engine.status()["taken"] == 1


async def test_a_driver_that_ends_its_process_is_survived(engines: Engines) -> None:
    assert (await engines("deadly").open(TRAINS)).device == "cpu"


async def test_a_job_that_fails_on_its_gpu_is_begun_again_on_the_processor(engines: Engines) -> None:
    engine = engines("0")
    seat = await engine.open(TRAINS)
    with pytest.raises(WorkerLost, match="failed on cuda:0: CUDA out of memory"):
        await seat.call("compute")
    await seat.close()

    again = await engine.open(TRAINS)
    assert await again.call("compute") == {"device": "cpu"}
    assert (await engine.open(Errands(accelerable=True, run="another"))).device == "cuda:0"


async def test_a_job_whose_process_ends_on_its_gpu_is_begun_again_on_the_processor(engines: Engines) -> None:
    engine = engines("0")
    seat = await engine.open(TRAINS)
    with pytest.raises(WorkerLost, match="status 9"):
        await seat.call("die")
    await seat.close()

    assert await (await engine.open(TRAINS)).call("die") == {"device": "cpu"}


async def test_where_only_gpus_will_do_a_failure_says_why(engines: Engines) -> None:
    with pytest.raises(GpuFailed, match="driver version"):
        await engines("broken", device=Device.CUDA).open(TRAINS)

    seat = await engines("0", device=Device.CUDA).open(TRAINS)
    with pytest.raises(GpuFailed, match="out of memory"):
        await seat.call("compute")
    with pytest.raises(WorkerLost, match="failed on cuda:0"):
        await seat.call("hello")


async def test_where_only_gpus_will_do_there_are_as_many_seats_as_they_have(engines: Engines) -> None:
    assert engines("0", device=Device.CUDA, seats=8).status()["seats"] == 2
    assert engines("0", "1", device=Device.CUDA, seats=3).status()["seats"] == 3


@pytest.mark.skipif(not capabilities().complete, reason=f"this kernel offers {capabilities()}")
async def test_a_seat_with_a_gpu_is_confined_like_any_other(engines: Engines, tmp_path: Path) -> None:
    seat = await engines("0").open(TRAINS)
    (tmp_path / "kept").write_bytes(b"private")

    for what in ("read a file", "connect", "start a program", "make a socket pair", "map a device", "take a limit off"):
        answer = await seat.call("attempt", what=what, target=str(tmp_path / "kept"), number=1)
        assert answer["refused"] == "PermissionError", what
    assert await seat.call("allocate", size=64 * MIB) == {"held": 64 * MIB}
    with pytest.raises(WorkerFailed, match="limit of 536870912 bytes"):
        await seat.call("allocate", size=20 << 30)
    assert await seat.call("threads", number=3) == {"done": 3}
