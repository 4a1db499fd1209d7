"""Questions over HTTP: whole runs of nodes that add up what nobody else sees, and what each side refuses."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from grid.learning.analytics import pooled
from grid.learning.questions import Histogram, LinearRegression, LogisticRegression, Moments, Question
from grid.learning.strategy import ANALYSIS, travelling
from grid.learning.study import Study
from grid.node import summing
from grid.wire.problems import NoParticipants, RunRefused, StrategyRefused
from tests.grid_of_nodes import TAGS, ANode, Learner, Scientist, Story, a_node, add_arrays, plan_of

StartNode = Callable[..., Awaitable[ANode]]

NAMES = ("ann", "bob", "cid")
AGES = Moments(("features.0", "features.1"))


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is waited for longer than a test takes."""
    monkeypatch.setattr(summing, "STEP", 1.0)
    monkeypatch.setattr(summing, "SOON", 0.1)


def rows(seed: int, count: int = 40) -> dict[str, Any]:
    """One node's data: the target is 1 more often where the first feature is large."""
    rng = np.random.default_rng(seed)
    features = rng.normal(2, 1, (count, 3)).astype(np.float32)
    target = (rng.random((count, 1)) < 1 / (1 + np.exp(2 - features[:, :1]))).astype(np.float32)
    return {"features": features, "target": target}


async def three(start_node: StartNode, names: tuple[str, ...] = NAMES, **settings: Any) -> list[ANode]:
    """Nodes with rows of their own."""
    nodes = [await start_node(name, Learner(), data=False, **settings) for name in names]
    for at, node in enumerate(nodes):
        await add_arrays(node.open, rows(at), tags=TAGS)
    return nodes


def wanted(question: Question, count: int = 3) -> dict[str, list[float]]:
    """The answer of all rows in one place."""
    tables = [rows(at) for at in range(count)]
    columns = [
        {
            **{f"features.{n}": np.float64(t["features"][:, n]) for n in range(3)},
            "target": np.float64(t["target"][:, 0]),
        }
        for t in tables
    ]
    return {name: list(values) for name, values in pooled(question, columns).items()}


def same(found: dict[str, list[float]], question: Question, count: int = 3) -> None:
    for name, values in wanted(question, count).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-11, err_msg=name)


@pytest.mark.parametrize("secure", [None, False], ids=["secure", "plain"])
@pytest.mark.parametrize(
    "question",
    [AGES, LinearRegression(("features.0",), "target"), LogisticRegression(("features.0", "features.1"), "target")],
    ids=["moments", "linear", "logistic"],
)
async def test_the_answer_is_that_of_all_rows_in_one_place(
    scientist: Scientist, coordinator: ANode, start_node: StartNode, question: Question, secure: bool | None
) -> None:
    nodes = await three(start_node)

    run = await scientist.grid(*nodes).analyse(question, "#pulse", secure=secure, coordinator=coordinator.address)
    result = await run.result()

    same(result.plan.answer, question)
    assert run.task.strategy == msgspec.to_builtins(ANALYSIS if secure is False else travelling(ANALYSIS, "masked"))
    assert {(line.accepted, line.examples) for line in result.history} == {(3, 120)}
    assert len(result.history) <= 8  # Newton's steps end when nothing moves


async def test_two_nodes_are_asked_in_the_clear_for_each_would_know_the_other(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node, NAMES[:2])
    grid = scientist.grid(*nodes)

    run = await grid.analyse(AGES, "#pulse", coordinator=coordinator.address)

    same((await run.result()).plan.answer, AGES, 2)
    with pytest.raises(RunRefused, match="the strategy needs 3 updates"):
        await grid.analyse(AGES, "#pulse", secure=True, coordinator=coordinator.address)


async def test_nobody_hears_of_one_nodes_part(scientist: Scientist, coordinator: ANode, start_node: StartNode) -> None:
    nodes = await three(start_node)
    run = await scientist.grid(*nodes).analyse(AGES, "#pulse", coordinator=coordinator.address)
    await run.result()

    story = Story(run)
    told = [await story.until("update", round=1, node=name) for name in NAMES]

    assert [(each["examples"], each["metrics"]) for each in told] == [(1, {})] * 3


async def test_another_process_finds_the_answer(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node)
    grid = scientist.grid(*nodes)
    run = await grid.analyse(AGES, "#pulse", coordinator=coordinator.address)
    await run.result()

    again = await grid.run(run.id, coordinator.address)

    study = await again.checkpoint()
    assert isinstance(study, Study)
    same(study.answer, AGES)


async def test_a_coordinator_that_is_restarted_goes_on_with_the_answer(
    scientist: Scientist, start_node: StartNode, tmp_path: Path
) -> None:
    carol = await a_node("carol", tmp_path / "carol", data=False)
    nodes = await three(start_node)
    question = LogisticRegression(("features.0", "features.1"), "target")
    run = await scientist.grid(*nodes).analyse(question, "#pulse", secure=False, coordinator=carol.address)
    await Story(run).until("round-closed", round=2)
    await carol.stop()

    again = await a_node("carol", tmp_path / "carol", data=False, port=int(carol.address.rpartition(":")[2]))
    result = await run.result()

    same(result.plan.answer, question)
    assert result.reason == "the answer is settled"
    await again.stop()


# --- what is refused ------------------------------------------------------------------------------


async def failure(scientist: Scientist, coordinator: ANode, nodes: list[ANode], question: Question, **how: Any) -> str:
    """Why a question came to nothing."""
    run = await scientist.grid(*nodes).analyse(question, "#pulse", coordinator=coordinator.address, **how)
    with pytest.raises(RunRefused) as refused:
        await run.result()
    return refused.value.detail


async def test_an_owner_says_of_how_many_rows_a_number_may_be(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node, least_rows=41)

    why = await failure(scientist, coordinator, nodes, AGES)

    assert "40 rows; this node answers for 41 and more" in why


async def test_small_counts_are_refused_in_the_clear_and_summed_under_masks(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes, question = await three(start_node), Histogram("features.0", (-9.0, 0.2, 0.4, 9.0))

    why = await failure(scientist, coordinator, nodes, question, secure=False)
    run = await scientist.grid(*nodes).analyse(question, "#pulse", coordinator=coordinator.address)

    assert "ask in a secure sum" in why
    same((await run.result()).plan.answer, question)


async def test_a_column_that_is_not_there_is_named(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    why = await failure(scientist, coordinator, await three(start_node), Moments(("weight",)))

    assert "no column 'weight'" in why


async def test_an_owner_who_insists_on_sums_answers_in_sums_alone(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node, sums_only=True)

    assert "may only be seen summed" in await failure(scientist, coordinator, nodes, AGES, secure=False)


async def test_what_no_answer_follows_from_is_said(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = [await start_node(name, Learner(examples=40)) for name in NAMES]  # all zeros

    why = await failure(scientist, coordinator, nodes, LinearRegression(("features.0",), "target"))

    assert "a column is the same in every row" in why


async def test_a_question_is_not_trained_and_a_plan_not_asked(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    nodes = await three(start_node)
    asked = msgspec.to_builtins(ANALYSIS)

    with pytest.raises(StrategyRefused, match="a question is answered by adding up"):
        await scientist.start(coordinator, nodes, plan_of(), strategy=asked)


async def test_nobody_who_has_such_data_is_said(scientist: Scientist, coordinator: ANode) -> None:
    with pytest.raises(NoParticipants):
        await scientist.grid().analyse(AGES, "#pulse", coordinator=coordinator.address)


def test_a_task_says_how_it_is_asked() -> None:
    parameters = Study(LogisticRegression(("a",), "b", 7)).parameters

    assert (parameters["rounds"], parameters["holdout"]) == (8, 0.0)
