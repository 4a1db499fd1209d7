"""Every strategy, through a whole grid: seven nodes, real workers, sealed updates."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from grid.learning.plan import Plan
from grid.learning.strategy import PRESETS, UPLOADS, Synchronous, least_updates, named, travelling
from grid.wire.problems import RunRefused, StrategyRefused
from grid.wire.runs import Quorum
from grid.worker.engine import LocalEngine
from tests.grid_of_nodes import ANode, Scientist, a_node, add_arrays

NODES = 7
TRUTH = np.array([[2.0], [-1.0], [0.5]], np.float32)
DRIVEN = {name: strategy for name, strategy in PRESETS.items() if strategy.timing == Synchronous()}
DRIVEN["fedavgm"] = named("fedavgm", lr=0.3)  # with full steps, momentum carries so small a problem past its goal
PLAN = Plan.linear(3, 1, loss="mse", optimizer="sgd", lr=0.05, epochs=2, batch=8)


class Shared(LocalEngine):
    """Workers that several nodes of a test have in common: no node may close them."""

    async def close(self) -> None:
        pass

    async def end(self) -> None:
        await super().close()


def share_of(number: int) -> dict[str, Any]:
    random = np.random.default_rng(number)
    features = (random.normal(size=(48, 3)) + 0.3 * number / NODES).astype(np.float32)
    noise = random.normal(scale=0.1, size=(48, 1)).astype(np.float32)
    return {"features": features, "target": features @ TRUTH + noise}


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[ANode]]:
    """A coordinator and seven nodes whose shares differ."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    engine = Shared("torch", 2 * NODES, scratch)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(engine.end)
        made = []
        for number in range(NODES + 1):
            node = await a_node(f"node-{number}", tmp_path / str(number), data=False, engine=engine)
            stack.push_async_callback(node.stop)
            if number:
                await add_arrays(node.open, share_of(number))
            made.append(node)
        yield made


STEPS = {"fedbuff": (named("fedbuff", size=3), 8), "fedasync": (PRESETS["fedasync"], 24)}
"""Strategies whose rounds are steps that wait for nobody, and how many steps."""


@pytest.mark.slow
async def test_strategies_that_wait_for_nobody_learn_on_seven_nodes(nodes: list[ANode], scientist: Scientist) -> None:
    coordinator, *participants = nodes
    assert set(DRIVEN) | set(STEPS) == set(PRESETS)
    for name, (strategy, rounds) in STEPS.items():
        run = await scientist.start(
            coordinator,
            participants,
            PLAN,
            rounds=rounds,
            holdout=0.25,
            quorum=Quorum(NODES),
            strategy=msgspec.to_builtins(strategy),
        )
        result = await run.result()
        assert result.metrics["loss"] < 1.0, name  # nothing learned: about 5, the mean square of the targets
        assert [line.accepted for line in result.history] == [least_updates(strategy)] * rounds, name


@pytest.mark.slow
async def test_every_synchronous_strategy_learns_on_seven_nodes(nodes: list[ANode], scientist: Scientist) -> None:
    coordinator, *participants = nodes
    losses: dict[str, tuple[float, float]] = {}
    for name, strategy in DRIVEN.items():
        run = await scientist.start(
            coordinator,
            participants,
            PLAN,
            rounds=4,
            holdout=0.25,
            quorum=Quorum(NODES),
            strategy=msgspec.to_builtins(strategy),
        )
        result = await run.result()
        history = [line.metrics["loss"] for line in result.history]
        losses[name] = history[0], history[-1]
        assert [line.accepted for line in result.history] == [NODES] * 4, name

    assert {name for name, (first, last) in losses.items() if not last < first} == set(), losses


@pytest.mark.slow
async def test_encoded_updates_learn_as_exact_ones_do(nodes: list[ANode], scientist: Scientist) -> None:
    coordinator, *participants = nodes
    losses: dict[str, float] = {}
    plan = Plan.mlp([3, 64, 1], loss="mse", optimizer="sgd", lr=0.05, epochs=2, batch=8)
    for name in UPLOADS:
        run = await scientist.start(
            coordinator,
            participants,
            plan,
            rounds=6,
            holdout=0.25,
            quorum=Quorum(NODES),
            strategy=msgspec.to_builtins(travelling(PRESETS["fedavg"], name)),
        )
        losses[name] = (await run.result()).metrics["loss"]

    assert losses["int8"] == pytest.approx(losses["exact"], rel=0.05)
    assert losses["top-k"] < 2.0, losses  # the untrained model has about 5


async def test_rounded_models_go_down_in_half_of_the_bytes_and_learn_as_exact_ones_do(
    nodes: list[ANode], scientist: Scientist
) -> None:
    coordinator, *participants = nodes
    told: dict[tuple[str, str], tuple[float, int]] = {}
    plan = Plan.mlp([3, 2048, 1], loss="mse", optimizer="sgd", lr=0.01, epochs=2, batch=8)
    for sent in (("exact", "exact"), ("exact", "bf16"), ("int8", "bf16")):
        strategy = msgspec.to_builtins(travelling(PRESETS["fedavg"], *sent))
        run = await scientist.start(
            coordinator, participants[:3], plan, rounds=3, holdout=0.25, quorum=Quorum(3), strategy=strategy
        )
        down = [event.data["bytes"]["down"] async for event in run.watch() if event.kind == "round-closed"]
        learned = await run.checkpoint()
        told[sent] = run.history.lines()[-1].metrics["loss"], down[1]
        assert np.frombuffer(learned.initial, np.uint32)[:4096].astype(np.uint16).any()  # no rounded model

    loss, whole = told["exact", "exact"]
    assert [told[sent][0] for sent in told] == pytest.approx([loss] * 3, rel=0.05)
    assert [told[sent][1] / whole for sent in told] == pytest.approx([1.0, 0.5, 0.5], abs=0.1)  # with its envelope


async def test_a_quorum_below_what_the_strategy_needs_is_refused(coordinator: ANode, scientist: Scientist) -> None:
    strategy = msgspec.to_builtins(PRESETS["krum"])
    with pytest.raises(RunRefused, match=f"needs {least_updates(PRESETS['krum'])} updates"):
        await scientist.start(coordinator, [coordinator], strategy=strategy)


async def test_a_strategy_that_is_none_is_refused(coordinator: ANode, scientist: Scientist) -> None:
    with pytest.raises(StrategyRefused):
        await scientist.start(coordinator, [coordinator], strategy={"server": {"name": "guess"}})
