"""A plan trained in a seat, with torch: the whole way of one round on a participant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
import torch

from grid.learning.broadcasts import Rounding
from grid.learning.layouts import model_layout
from grid.learning.plan import Plan
from grid.learning.recipe import Dp
from grid.learning.recipe import Limits as Grant
from grid.learning.strategy import PRESETS, travelling
from grid.learning.tensors import read_header
from grid.wire.problems import PlanRefused, StrategyRefused, WorkerFailed
from grid.worker.engine import Limits, LocalEngine, LocalSeat, TrainJob
from tests.worker.samples import bundle_file, separable

pytestmark = pytest.mark.asyncio(loop_scope="module")

PLAN = Plan.mlp([2, 8, 2], metrics=("accuracy",), epochs=20, lr=0.5)
LIMITS = Limits(memory=512 << 20, wall=60, cpu=60, threads=2)


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def engine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalEngine]:
    engine = LocalEngine("torch", seats=2, scratch=tmp_path_factory.mktemp("scratch"))
    yield engine
    await engine.close()


async def opened(engine: LocalEngine, folder: Path, plan: Plan = PLAN, width: int = 2, **changes: object) -> LocalSeat:
    bundle, tensors = bundle_file(folder / "bundle", plan), separable(folder / "tensors", width=width)
    settings = {"inputs": ("features",), "target": "target", "limits": LIMITS} | changes
    return await engine.open(TrainJob(bundle, tensors, **settings))  # type: ignore[arg-type]


async def test_a_round_makes_the_model_better_and_leaves_its_start_alone(engine: LocalEngine, tmp_path: Path) -> None:
    seat = await opened(engine, tmp_path, holdout=0.25)
    ready = await seat.call("prepare")
    seat.inbox[:] = PLAN.initial
    before = await seat.call("evaluate")
    fitted = await seat.call("fit", round=0)
    after = await seat.call("evaluate", model="outbox")

    assert read_header(ready["layout"])[0] == PLAN.layout
    assert (ready["digest"], ready["examples"], ready["held_out"]) == (PLAN.digest, 150, 50)
    assert fitted["examples"] == 150
    assert after["metrics"]["accuracy"] > max(0.9, before["metrics"]["accuracy"])
    assert bytes(seat.inbox) == PLAN.initial != bytes(seat.outbox)
    await seat.close()


async def test_a_training_tells_how_far_it_is(engine: LocalEngine, tmp_path: Path) -> None:
    seat = await opened(engine, tmp_path)
    seat.inbox[:] = PLAN.initial
    heard: list[dict[str, float]] = []

    await seat.call("fit", heard.append, round=0)

    assert (heard[0]["step"], heard[0]["epoch"], heard[0]["steps"]) == (1, 1, 20 * -(-160 // PLAN.recipe.batch))
    assert set(heard[0]) == {"step", "steps", "epoch", "loss"}
    await seat.close()


async def test_a_seat_serves_round_after_round(engine: LocalEngine, tmp_path: Path) -> None:
    seat = await opened(engine, tmp_path)
    seat.inbox[:] = PLAN.initial
    losses = []
    for number in range(3):
        losses.append((await seat.call("fit", round=number, epochs=1))["metrics"]["loss"])
        seat.inbox[:] = seat.outbox

    assert losses == sorted(losses, reverse=True)
    await seat.close()


async def test_a_seed_gives_the_same_model_again_and_another_seed_another(engine: LocalEngine, tmp_path: Path) -> None:
    seat = await opened(engine, tmp_path)
    seat.inbox[:] = PLAN.initial
    models = []
    for seed in (1, 1, 2):
        await seat.call("fit", round=0, seed=seed, epochs=1)
        models.append(bytes(seat.outbox))

    assert models[0] == models[1] != models[2]
    await seat.close()


async def test_no_steps_change_nothing(engine: LocalEngine, tmp_path: Path) -> None:
    seat = await opened(engine, tmp_path)
    seat.inbox[:] = PLAN.initial
    fitted = await seat.call("fit", round=0, epochs=0)

    assert fitted["steps"] == 0
    assert bytes(seat.outbox) == PLAN.initial
    await seat.close()


async def test_convolutions_find_all_they_need_inside_the_sandbox(engine: LocalEngine, tmp_path: Path) -> None:
    plan = Plan.cnn((1, 4, 4), 2, channels=(4,), hidden=4, optimizer="adam")
    seat = await opened(engine, tmp_path, plan, width=16)
    seat.inbox[:] = plan.initial

    assert (await seat.call("fit", round=0, epochs=1))["steps"] > 0
    await seat.close()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"target": "absent"}, "no tensor 'absent'"),
        ({"holdout": 0.9}, "20 examples to train on"),
        ({"grant": Grant(minimum_batch=64)}, "asks for 64 or more"),
        ({"limits": Limits(memory=1000)}, "memory"),
    ],
)
async def test_prepare_refuses(engine: LocalEngine, tmp_path: Path, changes: dict[str, object], why: str) -> None:
    seat = await opened(engine, tmp_path, **changes)

    with pytest.raises((PlanRefused, WorkerFailed), match=why):
        await seat.call("prepare")
    await seat.close()


async def test_a_diverging_training_is_a_failure_and_no_result(engine: LocalEngine, tmp_path: Path) -> None:
    plan = Plan.linear(2, 1, loss="mse", lr=100.0, epochs=20)
    seat = await opened(engine, tmp_path, plan)
    seat.inbox[:] = plan.initial

    with pytest.raises(WorkerFailed, match="diverged"):
        await seat.call("fit", round=0)
    await seat.close()


async def test_a_file_that_is_no_bundle_is_refused_before_a_seat_is_taken(engine: LocalEngine, tmp_path: Path) -> None:
    data = separable(tmp_path / "tensors")

    with pytest.raises(PlanRefused, match="no recipe"):
        await engine.open(TrainJob(data, data, ("features",), "target"))

    assert engine.status()["taken"] == 0


# --- strategies ------------------------------------------------------------------------------------


async def test_numbers_that_a_strategy_needs_come_with_the_update(engine: LocalEngine, tmp_path: Path) -> None:
    numbers = {}
    for name in ("fedavg", "fednova", "q-fedavg"):
        seat = await opened(engine, tmp_path, strategy=PRESETS[name])
        seat.inbox[:] = PLAN.initial
        before = await seat.call("evaluate", split="train")
        fitted = await seat.call("fit", round=0)
        numbers[name] = fitted["numbers"]
        await seat.close()

    assert numbers == {
        "fedavg": {},
        "fednova": {"normaliser": fitted["steps"]},
        "q-fedavg": {"loss": before["metrics"]["loss"]},
    }


async def test_a_fedbuff_update_is_what_was_learned(engine: LocalEngine, tmp_path: Path) -> None:
    results = []
    for name in ("fedavg", "fedbuff"):
        seat = await opened(engine, tmp_path, strategy=PRESETS[name])
        seat.inbox[:] = PLAN.initial
        await seat.call("fit", round=0)
        results.append(np.frombuffer(bytes(seat.outbox), np.float32))
        await seat.close()

    np.testing.assert_allclose(results[1], results[0] - np.frombuffer(PLAN.initial, np.float32), rtol=1e-5, atol=1e-7)


async def test_a_scaffold_seat_goes_on_with_the_variate_that_its_node_kept(engine: LocalEngine, tmp_path: Path) -> None:
    layout = model_layout(PLAN.layout, PRESETS["scaffold"])
    undisturbed, seat = [await opened(engine, tmp_path, strategy=PRESETS["scaffold"]) for _ in range(2)]
    for each in (undisturbed, seat):
        assert each.inbox.nbytes == layout.size == each.state.nbytes + PLAN.layout.size
        each.inbox[:] = PLAN.initial + bytes(each.state.nbytes)
        await each.call("fit", round=0, epochs=1)
    kept, first = bytes(seat.state), bytes(seat.outbox)
    await seat.close()
    seat = await opened(engine, tmp_path, strategy=PRESETS["scaffold"])
    seat.state[:] = kept
    for each in (undisturbed, seat):
        each.inbox[:] = first
        await each.call("fit", round=1, epochs=1)

    assert any(kept)
    assert bytes(seat.outbox) == bytes(undisturbed.outbox) != first
    assert bytes(seat.state) == bytes(undisturbed.state) != kept
    await seat.close()
    await undisturbed.close()


async def test_a_rule_about_steps_of_sgd_refuses_another_optimizer(engine: LocalEngine, tmp_path: Path) -> None:
    seat = await opened(engine, tmp_path, PLAN.with_(optimizer="adam"), strategy=PRESETS["scaffold"])

    with pytest.raises(StrategyRefused, match="steps of sgd"):
        await seat.call("prepare")
    await seat.close()


async def test_training_begins_with_what_was_received_and_names_it(engine: LocalEngine, tmp_path: Path) -> None:
    strategy = travelling(PRESETS["fedavg"], broadcast="bf16")
    seat = await opened(engine, tmp_path, strategy=strategy)
    wire = memoryview(bytearray(PLAN.initial))
    Rounding(strategy, PLAN.layout).shrink(wire)
    expected = bytes(Rounding(strategy, PLAN.layout).received(memoryview(PLAN.initial)))
    seat.inbox[: PLAN.layout.size // 2] = wire[: PLAN.layout.size // 2]

    await seat.call("receive")

    assert bytes(seat.inbox) == expected != PLAN.initial
    assert (await seat.call("fit", round=0))["base"] == sha256(expected).hexdigest()
    await seat.close()


class Twice(torch.nn.Module):
    """One layer at two places, of which no books are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(torch.tanh(self.a(torch.tanh(self.a(x)))))  # type: ignore[no-any-return]


BOOKS = PLAN.with_(dp=Dp(clip=1.0, noise=1.0, rate=0.2), lr=0.5, epochs=20)
ONE_BY_ONE = Plan.capture(Twice(), torch.randn(4, 2), dp=Dp(clip=1.0, noise=1.0, rate=0.2), lr=0.5, epochs=4)


@pytest.mark.parametrize("plan", [BOOKS, ONE_BY_ONE], ids=["book-keeping", "per example"])
async def test_a_private_plan_trains_in_its_sandbox_tells_no_loss_and_learns(
    engine: LocalEngine, tmp_path: Path, plan: Plan
) -> None:
    seat = await opened(engine, tmp_path, plan)
    seat.inbox[:] = plan.initial
    updates = []
    for secret in (b"a" * 16, b"b" * 16):
        fitted = await seat.call("fit", round=0, secret=secret)
        updates.append(bytes(seat.outbox))
        assert fitted["metrics"] == {}
        assert fitted["steps"] == plan.recipe.private_steps

    assert updates[0] != updates[1]
    assert (await seat.call("evaluate", split="train", model="outbox"))["metrics"]["loss"] < 0.6
    with pytest.raises(WorkerFailed):
        await seat.call("fit", round=0)
    await seat.close()
