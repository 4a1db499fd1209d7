"""Models folded in a seat, with numpy alone: the whole way of a round at a coordinator, whatever the strategy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from grid.learning.strategy import PRESETS, BFloat16, Strategy, named
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.wire.problems import GridError, StrategyRefused, UpdateRefused, WorkerFailed
from grid.worker.engine import FoldJob, LocalEngine, LocalSeat

LAYOUT = Layout([TensorSpec("weight", "F32", (2, 2)), TensorSpec("bias", "F32", (2,))])


def model(value: float) -> bytes:
    return np.full(6, value, np.float32).tobytes()


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine("numpy", seats=2, scratch=tmp_path)
    yield engine
    await engine.close()


@pytest_asyncio.fixture
async def seat(engine: LocalEngine) -> LocalSeat:
    return await engine.open(FoldJob(header_bytes(LAYOUT)))


async def seat_of(engine: LocalEngine, strategy: Strategy, updates: int = 0, layout: Layout = LAYOUT) -> LocalSeat:
    return await engine.open(FoldJob(header_bytes(layout), strategy, updates=updates, budget=8 << 20))


async def fold(seat: LocalSeat, value: float, weight: float) -> None:
    seat.inbox[:] = model(value)
    await seat.call("check")
    await seat.call("fold", weight=weight)


async def test_the_mean_is_weighted_by_examples(seat: LocalSeat) -> None:
    await fold(seat, 1.0, weight=30)
    await fold(seat, 4.0, weight=10)
    await seat.call("result")

    assert np.frombuffer(seat.outbox, np.float32) == pytest.approx(1.75)


async def test_a_new_round_begins_with_nothing(seat: LocalSeat) -> None:
    await fold(seat, 8.0, weight=1)
    await seat.call("begin")
    await fold(seat, 2.0, weight=5)
    await seat.call("result")

    assert bytes(seat.outbox) == model(2.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
async def test_an_update_that_is_not_finite_is_refused_and_leaves_the_sum(seat: LocalSeat, value: float) -> None:
    await fold(seat, 3.0, weight=1)
    with pytest.raises(GridError) as caught:
        await fold(seat, value, weight=1)
    await seat.call("result")

    assert not isinstance(caught.value, WorkerFailed)
    assert bytes(seat.outbox) == model(3.0)


async def test_an_engine_with_numpy_alone_does_not_train(seat: LocalSeat) -> None:
    assert seat.inbox.nbytes == LAYOUT.size
    with pytest.raises(WorkerFailed, match="knows no 'fit'"):
        await seat.call("fit")


# --- other strategies -----------------------------------------------------------------------------


async def test_a_new_seat_that_is_given_model_and_state_goes_on_where_the_old_one_was(engine: LocalEngine) -> None:
    undisturbed, seat = [await seat_of(engine, PRESETS["fedadam"]) for _ in range(2)]
    for each in (undisturbed, seat):
        each.inbox[:] = model(1.0)
        await each.call("begin", current="inbox")
        await fold(each, 2.0, weight=1)
        await each.call("result")
    saved, state = bytes(seat.outbox), bytes(seat.state)
    await seat.close()
    seat = await seat_of(engine, PRESETS["fedadam"])
    seat.state[:], seat.inbox[:] = state, saved
    await seat.call("begin", current="inbox")
    await undisturbed.call("begin", current="outbox")
    for each in (undisturbed, seat):
        await fold(each, 5.0, weight=1)
        await each.call("result")

    assert saved != bytes(seat.outbox) == bytes(undisturbed.outbox)
    assert bytes(seat.state) == bytes(undisturbed.state)


async def test_numbers_of_reports_reach_the_rule(engine: LocalEngine) -> None:
    seat = await seat_of(engine, PRESETS["fednova"])
    seat.inbox[:] = model(0.0)
    await seat.call("begin", current="inbox")
    for value, normaliser in ((1.0, 1.0), (3.0, 3.0)):
        seat.inbox[:] = model(value)
        await seat.call("fold", weight=1, normaliser=normaliser)
    await seat.call("result")

    assert np.frombuffer(seat.outbox, np.float32) == pytest.approx(2.0 * (1.0 + 1.0) / 2)
    other = await seat_of(engine, PRESETS["q-fedavg"])
    await other.call("begin", current="inbox")
    with pytest.raises(GridError, match="needs the loss"):
        await other.call("fold", weight=1)


async def test_a_median_of_updates_on_disk(engine: LocalEngine, tmp_path: Path) -> None:
    seat = await seat_of(engine, PRESETS["median"], updates=3)
    for _ in range(2):
        await seat.call("begin")
        for value in (1.0, 4.0, 1e12):
            await fold(seat, value, weight=1)
        await seat.call("result")
        assert bytes(seat.outbox) == model(4.0)

    assert list(tmp_path.iterdir()) == []  # the file has no name


async def test_more_updates_than_were_asked_for_do_not_fit_and_the_round_goes_on(engine: LocalEngine) -> None:
    seat = await seat_of(engine, PRESETS["median"], updates=3)
    for value in (1.0, 4.0, 2.0):
        await fold(seat, value, weight=1)
    with pytest.raises(WorkerFailed, match="no room on disk for update 4"):
        await fold(seat, 9.0, weight=1)
    await seat.call("result")

    assert bytes(seat.outbox) == model(2.0)


async def test_krum_says_how_many_updates_it_needs(engine: LocalEngine) -> None:
    seat = await seat_of(engine, named("krum", liars=1), updates=9)
    await fold(seat, 1.0, weight=1)

    with pytest.raises(StrategyRefused, match="1 updates; this strategy needs at least 5"):
        await seat.call("result")


@pytest.mark.parametrize(("name", "count"), [("median", 50), ("bulyan", 20), ("geometric-median", 20)])
async def test_memory_of_a_robust_rule_is_its_budget_and_two_models(engine: LocalEngine, name: str, count: int) -> None:
    """50 updates of 4 MB in 8 MiB: 200 MB would stand side by side otherwise."""
    layout = Layout([TensorSpec("weight", "F32", (1_000_000,))])
    seat = await seat_of(engine, PRESETS[name], updates=count, layout=layout)
    await seat.call("begin")  # once it has answered, its process is known
    before, rng = peak_rss(seat), np.random.default_rng(0)
    updates = [rng.standard_normal(1_000_000, np.float32) for _ in range(3)]
    for number in range(count):
        seat.inbox[:] = (updates[number % 3] * (1 + number)).tobytes()
        await seat.call("fold", weight=1)
    await seat.call("result")

    slack = 6 << 20  # code touched for the first time, and holes that malloc keeps
    assert peak_rss(seat) - before < 2 * layout.size + (8 << 20) + slack


def peak_rss(seat: LocalSeat) -> int:
    """Bytes of memory that the seat's process had at most, without pages of files.

    How much of a library is mapped at its first touch is the page cache's affair, and says nothing of the job.
    """
    lines = Path(f"/proc/{seat.pid}/status").read_text().splitlines()
    size = {line.split()[0]: 1024 * int(line.split()[1]) for line in lines if line.endswith(" kB")}
    return size["VmHWM:"] - size["RssFile:"]


def test_a_strategy_travels_to_the_seat_as_plain_data() -> None:
    work = FoldJob(header_bytes(LAYOUT), PRESETS["fedadam"]).work()

    assert msgspec.convert(work.arguments["strategy"], Strategy) == PRESETS["fedadam"]
    assert (work.model_bytes, work.state_bytes, work.spill_bytes) == (LAYOUT.size, 8 + 2 * LAYOUT.size, 0)


async def test_an_update_on_top_of_another_model_than_the_rounded_one_is_refused(engine: LocalEngine) -> None:
    seat = await seat_of(engine, Strategy(broadcast=BFloat16()))
    seat.inbox[:] = model(1.001)
    await seat.call("begin", current="inbox")
    seat.inbox[:] = model(1.001)
    await seat.call("round")
    assert bytes(seat.inbox[:12]) == bytes.fromhex("803f") * 6  # the nearest bfloat16 is 1

    for base in ("", sha256(model(1.001)).hexdigest()):
        seat.inbox[:] = model(2.0)
        with pytest.raises(UpdateRefused, match="another model"):
            await seat.call("check", base=base)
    based = sha256(model(1.0)).hexdigest()
    await seat.call("check", base=based)
    await seat.call("fold", weight=1, base=based)
    await seat.call("result")

    assert np.frombuffer(seat.outbox, np.float32) == pytest.approx(2.001, abs=1e-6)
