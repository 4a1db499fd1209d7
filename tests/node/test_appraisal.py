"""Checkpoints beside each other on one dataset: computed by workers, told to whom its owner lets be told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from grid.learning.plan import Plan
from grid.learning.tensors import header_bytes
from grid.node.appraisal import Appraiser, Basis
from grid.transport.auth import OWNER, Caller
from grid.wire.budgets import SetBudget
from grid.wire.problems import BudgetSpent, DatasetNotFound, ModelRefused, NotAllowed, PlanRefused, QuestionRefused
from tests.grid_of_nodes import ANode, add_arrays, plan_of

ON = Basis("trial")
StartNode = Callable[..., Awaitable[ANode]]


def saved(folder: Path, name: str, weights: list[float], bias: float, *, plan: bool = True) -> Path:
    """A checkpoint of a linear model, with its plan in it or without."""
    learned = plan_of().trained(np.array([*weights, bias], np.float32).tobytes())
    path = folder / name
    path.write_bytes(learned.bundle() if plan else header_bytes(learned.layout) + learned.initial)
    return path


async def with_trial(start_node: StartNode, *, rows: int = 40, **settings: object) -> ANode:
    node = await start_node("ann", real=True, workers=1, **settings)
    features = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    target = (features @ np.array([[1.0], [2.0], [3.0]]) + 0.5).astype(np.float32)
    await add_arrays(node.open, {"features": features, "target": target}, "trial", ("#trial",))
    return node


async def test_the_checkpoint_that_the_data_were_made_by_does_best(start_node: StartNode, tmp_path: Path) -> None:
    node = await with_trial(start_node)
    exact = saved(tmp_path, "exact", [1.0, 2.0, 3.0], 0.5)
    zeros = saved(tmp_path, "zeros", [0.0, 0.0, 0.0], 0.0, plan=False)
    near = saved(tmp_path, "near", [1.0, 2.0, 3.0], 0.4, plan=False)

    scores = await Appraiser(node.open.means).compare(ON, [zeros, near, exact])

    assert [score.examples for score in scores] == [40, 40, 40]
    assert scores[2].loss == pytest.approx(0.0, abs=1e-10)
    assert scores[1].loss == pytest.approx(0.01, rel=1e-3)
    assert scores[0].loss > scores[1].loss


async def test_without_a_plan_or_of_another_model_nothing_is_computed(start_node: StartNode, tmp_path: Path) -> None:
    node = await with_trial(start_node)
    appraiser, bare = Appraiser(node.open.means), saved(tmp_path, "bare", [0.0] * 3, 0.0, plan=False)
    wide = tmp_path / "wide"
    wide.write_bytes(Plan.linear(4, 1, loss="mse").bundle())

    with pytest.raises(ModelRefused, match="has a plan"):
        await appraiser.compare(ON, [bare])
    with pytest.raises(ModelRefused, match="another model"):
        await appraiser.compare(ON, [saved(tmp_path, "plan", [0.0] * 3, 0.0), wide])
    with pytest.raises(PlanRefused):
        await appraiser.compare(ON, [wide])


GENERATOR = Caller(None, None, owner=False, kind="token", account="gen")


async def test_a_score_is_for_whom_the_datas_owner_lets_learn_from_it(start_node: StartNode) -> None:
    node = await with_trial(start_node)
    appraiser, means = Appraiser(node.open.means), node.open.means

    await appraiser.admit(ON, OWNER)
    with pytest.raises(NotAllowed, match="may not learn"):
        await appraiser.admit(ON, GENERATOR)
    await means.catalogue.change("trial", visibility="public")
    await appraiser.admit(ON, GENERATOR)
    with pytest.raises(DatasetNotFound):
        await appraiser.admit(Basis("missing"), GENERATOR)
    await means.ledger.set(SetBudget("trial", epsilon=1.0, delta=1e-5))
    with pytest.raises(BudgetSpent):
        await appraiser.admit(ON, OWNER)


async def test_of_few_rows_nothing_is_told(start_node: StartNode) -> None:
    node = await with_trial(start_node, rows=4)

    with pytest.raises(QuestionRefused, match="fewer than"):
        await Appraiser(node.open.means).admit(ON, OWNER)
