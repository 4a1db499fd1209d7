"""Seats and the zygote behind them: what a caller gets, and what the death of either costs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from grid.wire.problems import NotFound, PlanRefused, WorkerBusy, WorkerFailed
from grid.worker.engine import Limits, LocalEngine, LocalSeat, Priority
from tests.worker.errands import MIB, Errands, errand_engine, has_ended


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LocalEngine]:
    engine = errand_engine(tmp_path)
    yield engine
    await engine.close()


@pytest_asyncio.fixture
async def seat(engine: LocalEngine) -> LocalSeat:
    return await engine.open(Errands())


async def test_arrays_travel_through_memory_that_both_sides_see(seat: LocalSeat) -> None:
    for start in (0, 100):
        seat.inbox[:] = bytes(range(start, start + 16))

        assert await seat.call("double") == {"bytes": 16}
        assert bytes(seat.outbox) == bytes(n * 2 % 256 for n in range(start, start + 16))


async def test_a_seat_keeps_its_process_from_call_to_call(seat: LocalSeat) -> None:
    assert (await seat.call("hello"))["pid"] == (await seat.call("hello"))["pid"] == seat.pid


async def test_a_job_gets_its_arguments_and_files(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("rows")
    (tmp_path / "empty").touch()
    seat = await engine.open(Errands(files={"data": tmp_path / "data", "none": tmp_path / "empty"}, greeting="hi"))

    assert (await seat.call("hello"))["greeting"] == "hi"
    assert await seat.call("read", name="data") == {"text": "rows"}
    assert await seat.call("read", name="none") == {"text": ""}


async def test_what_a_job_writes_to_its_files_stays_its_own(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("rows and rows")
    seat = await engine.open(Errands(files={"data": tmp_path / "data"}))

    assert await seat.call("scribble", name="data") == {"text": "gone and rows"}
    assert (tmp_path / "data").read_text() == "rows and rows"


async def test_a_file_that_is_a_link_is_refused_and_costs_no_seat(engine: LocalEngine, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/hostname")

    with pytest.raises(WorkerFailed, match="cannot be read"):
        await engine.open(Errands(files={"data": tmp_path / "link"}))

    assert engine.status()["taken"] == 0


async def test_progress_reaches_the_caller_in_order(seat: LocalSeat) -> None:
    heard: list[dict[str, Any]] = []

    assert await seat.call("count", heard.append, to=3) == {"counted": 3}
    assert heard == [{"step": 0}, {"step": 1}, {"step": 2}]


async def test_the_caller_gets_the_problem_that_the_job_raised(seat: LocalSeat) -> None:
    with pytest.raises(PlanRefused, match="not this one"):
        await seat.call("refuse")

    assert seat.failure is None


async def test_a_jobs_exception_tells_where_but_quotes_no_data(seat: LocalSeat) -> None:
    with pytest.raises(WorkerFailed) as caught:
        await seat.call("fail")

    assert caught.value.detail.startswith("ValueError in errand_jobs.py, line ")
    assert "patient" not in caught.value.detail


async def test_an_unknown_verb_is_refused(seat: LocalSeat) -> None:
    with pytest.raises(WorkerFailed, match="knows no 'nonsense'"):
        await seat.call("nonsense")


async def test_a_seat_killed_in_a_call_fails_that_call_and_costs_nothing_else(engine: LocalEngine) -> None:
    seat, other = await engine.open(Errands()), await engine.open(Errands())

    with pytest.raises(WorkerFailed, match="SIGKILL"):
        await seat.call("linger", lambda _: os.kill(seat.pid or 0, signal.SIGKILL), seconds=30)
    with pytest.raises(WorkerFailed, match="SIGKILL"):
        await seat.call("hello")

    assert (await other.call("hello"))["greeting"] == "hello"
    await seat.close()
    assert (await (await engine.open(Errands())).call("hello"))["greeting"] == "hello"


async def test_a_call_over_its_wall_limit_ends_the_seat(engine: LocalEngine) -> None:
    seat = await engine.open(Errands(limits=Limits(memory=512 * MIB, wall=0.2)))
    pid = seat.pid

    with pytest.raises(WorkerFailed, match=r"more than its limit of 0\.2 s"):
        await seat.call("linger", seconds=30)

    assert pid is not None
    await has_ended(pid)


async def test_a_call_over_its_processor_limit_ends_the_seat(engine: LocalEngine) -> None:
    seat = await engine.open(Errands(limits=Limits(memory=512 * MIB, cpu=0.5)))

    with pytest.raises(WorkerFailed, match="processor time"):
        await seat.call("burn")


async def test_a_cancelled_call_ends_the_seat(seat: LocalSeat) -> None:
    asleep = asyncio.Event()
    call = asyncio.create_task(seat.call("linger", lambda _: asleep.set(), seconds=30))
    await asleep.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    with pytest.raises(WorkerFailed, match="cancelled"):
        await seat.call("hello")


async def test_a_job_that_quits_is_reported_with_its_status(seat: LocalSeat) -> None:
    with pytest.raises(WorkerFailed, match="ended by itself with status 3"):
        await seat.call("quit")


@pytest.mark.parametrize("size", [16, 1 << 31])
async def test_a_frame_that_no_job_says_ends_the_seat(seat: LocalSeat, size: int) -> None:
    with pytest.raises(WorkerFailed, match="what no job says"):
        await seat.call("shout", size=size)


async def test_a_flood_of_progress_ends_the_seat(seat: LocalSeat) -> None:
    with pytest.raises(WorkerFailed, match="reports of progress"):
        await seat.call("count", to=1 << 40)


async def test_an_engine_without_a_free_seat_says_busy_after_its_patience(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path, seats=1, patience=0.05)
    seat = await engine.open(Errands())

    with pytest.raises(WorkerBusy):
        await engine.open(Errands())
    await seat.close()
    await seat.close()
    assert engine.status()["taken"] == 0
    await (await engine.open(Errands())).close()
    await engine.close()


async def test_whoever_waits_gets_the_seat_that_is_given_back(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path, seats=1)
    first = await engine.open(Errands())
    waiting = asyncio.create_task(engine.open(Errands()))
    await asyncio.sleep(0)
    await first.close()

    assert (await (await waiting).call("hello"))["greeting"] == "hello"
    await engine.close()


async def test_an_evaluation_gets_the_next_seat_before_a_training_that_waits_longer(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path, seats=1)
    first = await engine.open(Errands())
    training = asyncio.create_task(engine.open(Errands(greeting="train")))
    await asyncio.sleep(0)
    evaluating = asyncio.create_task(engine.open(Errands(greeting="measure", priority=Priority.EVALUATION)))
    await asyncio.sleep(0)
    assert engine.status()["waiting"] == 2
    await first.close()

    seat = await evaluating
    assert not training.done()
    await seat.close()
    assert (await (await training).call("hello"))["greeting"] == "train"
    await engine.close()


async def test_a_full_queue_says_at_once_when_to_come_again(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path, seats=1, queue=1, patience=20.0)
    seat = await engine.open(Errands())
    waiting = asyncio.create_task(engine.open(Errands()))
    await asyncio.sleep(0)

    with pytest.raises(WorkerBusy, match="1 jobs wait already") as refused:
        await engine.open(Errands())
    assert refused.value.retry_after == 20.0
    waiting.cancel()
    await asyncio.wait([waiting])
    assert engine.status()["waiting"] == 0
    await seat.close()
    assert engine.status()["taken"] == 0
    await engine.close()


async def test_a_killed_zygote_takes_its_seats_and_the_next_open_starts_another(engine: LocalEngine) -> None:
    seat = await engine.open(Errands())
    first, child = engine.zygote_pid, seat.pid

    with pytest.raises(WorkerFailed, match=r"forks workers has died|SIGKILL"):
        await seat.call("linger", lambda _: os.kill(first or 0, signal.SIGKILL), seconds=30)
    assert child is not None
    await has_ended(child)
    await seat.close()

    assert (await (await engine.open(Errands())).call("hello"))["greeting"] == "hello"
    assert engine.zygote_pid != first


async def test_an_idle_zygote_is_stopped_and_comes_back_when_needed(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path, idle=0.01)
    seat = await engine.open(Errands())
    first = engine.zygote_pid
    await seat.call("hello")
    await seat.close()
    assert first is not None
    await has_ended(first)

    assert not engine.status()["warm"]
    assert (await (await engine.open(Errands())).call("hello"))["greeting"] == "hello"
    await engine.close()


async def test_opens_at_the_same_time_share_one_zygote(engine: LocalEngine) -> None:
    seats = await asyncio.gather(engine.open(Errands()), engine.open(Errands()))

    assert len({seat.pid for seat in seats}) == 2
    assert engine.status() | {"isolation": ""} == {
        "preload": "numpy", "seats": 2, "taken": 2, "waiting": 0, "warm": True, "isolation": "", "policy": "require",
        "device": "auto", "gpus": {},
    }  # fmt: skip


async def test_a_job_table_that_cannot_be_loaded_is_a_failure_to_start(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path, jobs="tests.worker.no_such_table")

    with pytest.raises(WorkerFailed, match="before it was ready"):
        await engine.open(Errands())

    assert engine.status()["taken"] == 0
    await engine.close()


async def test_close_ends_every_process(tmp_path: Path) -> None:
    engine = errand_engine(tmp_path)
    seat = await engine.open(Errands())
    pids = [engine.zygote_pid, seat.pid]
    await engine.close()

    for pid in pids:
        assert pid is not None
        await has_ended(pid)


async def test_a_start_that_is_broken_off_leaves_no_process(tmp_path: Path) -> None:
    before = children()
    starting = asyncio.create_task(errand_engine(tmp_path, jobs="tests.worker.never_ready").warm())
    await asyncio.sleep(0)  # it runs as far as to wait for the process that it has started
    (process,) = children() - before

    starting.cancel()
    await asyncio.wait({starting})

    await has_ended(int(process))


def children() -> set[str]:
    """Processes that this one has started and not yet buried."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


async def test_workers_are_seen_at_their_work_and_one_that_is_dismissed_dies_alone(
    engine: LocalEngine, seat: LocalSeat
) -> None:
    other = await engine.open(Errands())
    at_work, also, *free = engine.workers()
    assert (at_work.number, at_work.job, at_work.pid) == (seat.number, "errands", seat.pid)
    assert also.number == other.number
    assert at_work.memory > MIB
    assert [worker.job for worker in free] == [""] * len(free)
    assert len({worker.number for worker in (at_work, also, *free)}) == 2 + len(free) == engine.status()["seats"]

    with pytest.raises(WorkerFailed):
        await seat.call("linger", lambda _: engine.dismiss(seat.number), seconds=30)
    assert await other.call("hello")
    with pytest.raises(NotFound):
        engine.dismiss(99)


async def test_who_waits_gets_a_worker_that_is_added_and_one_that_is_taken_away_ends_with_its_job(
    tmp_path: Path,
) -> None:
    engine = errand_engine(tmp_path, seats=1)
    first = await engine.open(Errands())
    second = asyncio.ensure_future(engine.open(Errands()))
    await asyncio.to_thread(lambda: None)
    assert not second.done()

    engine.resize(2)
    seat = await second
    engine.resize(1)
    assert (engine.status()["seats"], engine.status()["taken"], len(engine.workers())) == (1, 2, 2)
    await first.close()
    third = asyncio.ensure_future(engine.open(Errands()))
    await asyncio.to_thread(lambda: None)
    assert not third.done()
    await seat.close()
    await (await third).close()
    await engine.close()
