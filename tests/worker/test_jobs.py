"""What a zygote offers, by what it has loaded; and a linear plan trained where torch is not installed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from grid.learning.plan import Plan
from grid.learning.strategy import PRESETS
from grid.wire.problems import PlanRefused
from grid.worker.engine import Limits, LocalEngine, LocalSeat, TrainJob
from tests.worker.samples import bundle_file, separable

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAN = Plan.linear(2, 2, metrics=("accuracy",), epochs=5, lr=0.5)
LIMITS = Limits(memory=512 << 20, wall=60, cpu=60, threads=2)

WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # an import of it raises ImportError, as where it is not installed
from grid.cli.assemble import training_preload
from grid.worker.jobs import load
assert training_preload() == "linear"
assert load("linear").jobs.keys() == {"fold", "analyse", "train", "evaluate", "predict"}
assert load("numpy").jobs.keys() == {"fold", "analyse"}
assert not [name for name in sys.modules if name.startswith("torch.")]
"""


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine("linear", seats=1, scratch=tmp_path_factory.mktemp("scratch"))
    yield engine
    await engine.close()


async def opened(engine: LocalEngine, folder: Path, plan: Plan, strategy: str = "fedavg") -> LocalSeat:
    bundle, tensors = bundle_file(folder / "bundle", plan), separable(folder / "tensors")
    return await engine.open(
        TrainJob(bundle, tensors, ("features",), "target", limits=LIMITS, strategy=PRESETS[strategy])
    )


async def test_a_node_without_torch_offers_linear_training() -> None:
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", WITHOUT_TORCH], check=True)


@pytest.mark.parametrize("strategy", ["fedavg", "fedprox", "fedadam"])
async def test_numpy_trains_a_linear_plan_in_a_seat(engine: LocalEngine, tmp_path: Path, strategy: str) -> None:
    seat = await opened(engine, tmp_path, PLAN, strategy)
    seat.inbox[: len(PLAN.initial)] = PLAN.initial
    before = await seat.call("evaluate")
    fitted = await seat.call("fit", round=0)
    sends_delta = PRESETS[strategy].sends_delta
    update = np.frombuffer(bytes(seat.outbox[: len(PLAN.initial)]), np.float32)
    model = update + np.frombuffer(PLAN.initial, np.float32) if sends_delta else update
    seat.inbox[: len(PLAN.initial)] = model.astype(np.float32).tobytes()
    after = await seat.call("evaluate")

    assert fitted["examples"] == 160
    assert after["metrics"]["accuracy"] > max(0.9, before["metrics"]["accuracy"])
    await seat.close()


async def test_a_plan_that_is_not_linear_is_refused_with_the_reason(engine: LocalEngine, tmp_path: Path) -> None:
    seat = await opened(engine, tmp_path, Plan.mlp([2, 8, 2]))
    with pytest.raises(PlanRefused, match="no torch; it can train linear plans only"):
        await seat.call("prepare")
    await seat.close()
