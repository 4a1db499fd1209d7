"""Models folded in a seat, with numpy alone: the whole way of one round at a coordinator."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.wire.problems import GridError, WorkerFailed
from grid.worker.engine import FoldJob, LocalEngine, LocalSeat

LAYOUT = Layout([TensorSpec("weight", "F32", (2, 2)), TensorSpec("bias", "F32", (2,))])


def model(value: float) -> bytes:
    return np.full(6, value, np.float32).tobytes()


@pytest_asyncio.fixture
async def seat(tmp_path: Path) -> AsyncIterator[LocalSeat]:
    engine = LocalEngine("numpy", seats=1, scratch=tmp_path)
    yield await engine.open(FoldJob(header_bytes(LAYOUT)))
    await engine.close()


async def fold(seat: LocalSeat, value: float, weight: float) -> None:
    seat.inbox[:] = model(value)
    await seat.call("check")
    await seat.call("fold", weight=weight)


async def test_the_mean_is_weighted_by_examples(seat: LocalSeat) -> None:
    await fold(seat, 1.0, weight=30)
    await fold(seat, 4.0, weight=10)
    await seat.call("mean")

    assert np.frombuffer(seat.outbox, np.float32) == pytest.approx(1.75)


async def test_a_new_round_begins_with_nothing(seat: LocalSeat) -> None:
    await fold(seat, 8.0, weight=1)
    await seat.call("begin")
    await fold(seat, 2.0, weight=5)
    await seat.call("mean")

    assert bytes(seat.outbox) == model(2.0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
async def test_an_update_that_is_not_finite_is_refused_and_leaves_the_sum(seat: LocalSeat, value: float) -> None:
    await fold(seat, 3.0, weight=1)
    with pytest.raises(GridError) as caught:
        await fold(seat, value, weight=1)
    await seat.call("mean")

    assert not isinstance(caught.value, WorkerFailed)
    assert bytes(seat.outbox) == model(3.0)


async def test_an_engine_with_numpy_alone_does_not_train(seat: LocalSeat) -> None:
    assert seat.inbox.nbytes == LAYOUT.size
    with pytest.raises(WorkerFailed, match="knows no 'fit'"):
        await seat.call("fit")
