"""Questions answered in seats: a node's part from its file, and the sum of all parts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from grid.learning.analytics import pooled
from grid.learning.arrays import layout_of, views
from grid.learning.layouts import model_layout
from grid.learning.plan import Plan
from grid.learning.questions import LogisticRegression, Moments, Question
from grid.learning.recipe import Limits
from grid.learning.scheme import Scheme
from grid.learning.strategy import ANALYSIS, Strategy, travelling
from grid.learning.study import Study
from grid.learning.tensors import header_bytes
from grid.wire.problems import NotEstimable, QuestionRefused, StrategyRefused, UpdateRefused
from grid.worker.engine import FoldJob, LocalEngine, LocalSeat
from grid.worker.port import AnalyseJob, TrainJob

MASKED = travelling(ANALYSIS, "masked")
AGES = Moments(("age", "ill"))
SEEDS = {("ann", "bob"): b"1" * 16, ("ann", "cid"): b"2" * 16, ("bob", "cid"): b"3" * 16}
COLUMNS = {"age": ("features", 1, ()), "ill": ("target", 0, (0.0, 1.0)), "x": ("features", 0, ())}


def table(seed: int, rows: int = 30) -> dict[str, Any]:
    """One node's tensors: two features, and codes of a class."""
    rng = np.random.default_rng(seed)
    return {"features": rng.normal(5, 2, (rows, 2)).astype(np.float32), "target": rng.integers(0, 2, rows)}


def rows_of(tensors: dict[str, Any]) -> dict[str, Any]:
    """The same as columns."""
    x, age = np.float64(tensors["features"]).T
    return {"x": x, "age": age, "ill": np.float64(tensors["target"])}


class Analysts:
    """Seats with the parts of some nodes, and one with their sum."""

    def __init__(self, engine: LocalEngine, folder: Path) -> None:
        self._engine, self._folder = engine, folder

    async def part(self, question: Question, tensors: dict[str, Any], strategy: Strategy, least: int = 5) -> LocalSeat:
        layout = layout_of(tensors)
        path, bundle = self._folder / "tensors", self._folder / "bundle"
        path.write_bytes(header_bytes(layout) + b"".join(tensors[spec.name].tobytes() for spec in layout.specs))
        Study(question).save(bundle)
        seat = await self._engine.open(AnalyseJob(bundle, path, COLUMNS, strategy, least))
        assert (await seat.call("prepare"))["examples"] == len(tensors["target"])
        return seat

    async def sum(self, question: Question, strategy: Strategy) -> LocalSeat:
        return await self._engine.open(FoldJob(Scheme(Study(question), strategy).header, strategy))

    async def answer(self, question: Question, nodes: list[dict[str, Any]], strategy: Strategy) -> dict[str, Any]:
        """Round after round, until it is done."""
        known = model_layout(Study(question).layout, strategy)
        model = b"".join(Scheme(Study(question), strategy).first())
        parts = {name: await self.part(question, t, strategy) for name, t in zip(("ann", "bob", "cid"), nodes)}  # noqa: B905
        folder = await self.sum(question, strategy)
        for _ in range(50):
            folder.inbox[: len(model)] = model
            await folder.call("begin", current="inbox")
            for name, seat in parts.items():
                seat.inbox[: len(model)] = model
                base = await seat.call("receive")
                await seat.call("fit", round=1, seed=1)
                if strategy.masked:
                    added = [seed for pair, seed in SEEDS.items() if pair[0] == name]
                    await seat.call("mask", added=added, subtracted=[s for p, s in SEEDS.items() if p[1] == name])
                folder.inbox[:] = seat.outbox
                await folder.call("check", **base)
                await folder.call("fold", weight=1.0)
            done = await folder.call("result", parties=3)
            model = bytes(folder.outbox[: len(model)])
            if done["done"]:
                return views(known, model)
        raise AssertionError("no end")


@pytest_asyncio.fixture
async def analysts(tmp_path: Path) -> AsyncIterator[Analysts]:
    engine = LocalEngine("numpy", seats=4, scratch=tmp_path / "scratch")
    (tmp_path / "scratch").mkdir()
    yield Analysts(engine, tmp_path)
    await engine.close()


@pytest.mark.parametrize("strategy", [ANALYSIS, MASKED], ids=["plain", "masked"])
@pytest.mark.parametrize("question", [AGES, LogisticRegression(("age", "x"), "ill")], ids=["moments", "logistic"])
async def test_seats_come_to_the_answer_of_all_rows_in_one_place(
    analysts: Analysts, question: Question, strategy: Strategy
) -> None:
    nodes = [table(1), table(2, 50), table(3)]

    found = await analysts.answer(question, nodes, strategy)

    wanted = pooled(question, [rows_of(node) for node in nodes])
    for name, values in wanted.items():
        np.testing.assert_allclose(found[name], values, rtol=1e-9, atol=1e-11, err_msg=name)


async def test_a_part_under_masks_looks_like_noise(analysts: Analysts) -> None:
    seat = await analysts.part(AGES, table(1), MASKED)
    await seat.call("fit")
    assert not np.any(np.frombuffer(seat.outbox, np.uint32))  # nothing of it is there in the clear

    await seat.call("mask", added=[b"a" * 16], subtracted=[])

    assert len(np.unique(np.frombuffer(seat.outbox, np.uint32))) == 15
    assert np.frombuffer(seat.outbox, np.uint32).max() > 2**28


async def test_a_node_does_not_answer_for_a_few_rows(analysts: Analysts) -> None:
    seat = await analysts.part(AGES, table(1, 9), MASKED, least=10)

    with pytest.raises(QuestionRefused, match="9 rows; this node answers for 10"):
        await seat.call("fit")
    assert not any(seat.outbox)


async def test_codes_that_the_description_does_not_have_are_refused(analysts: Analysts) -> None:
    with pytest.raises(QuestionRefused, match="codes"):
        await analysts.part(AGES, table(1) | {"target": np.full(30, 2)}, ANALYSIS)


async def test_a_sum_takes_no_part_that_is_not_finite(analysts: Analysts) -> None:
    seat = await analysts.sum(AGES, ANALYSIS)
    await seat.call("begin", current="inbox")
    seat.inbox[:24] = np.array([1.0, np.nan, 0.0]).tobytes()

    with pytest.raises(UpdateRefused, match="not finite"):
        await seat.call("check")


async def test_a_sum_under_masks_takes_no_part_of_another_round_and_not_two(analysts: Analysts) -> None:
    seat = await analysts.sum(AGES, MASKED)
    base = (await seat.call("begin", current="inbox"))["base"]

    with pytest.raises(UpdateRefused, match="something else than this round"):
        await seat.call("check", base="0" * 64)
    for _ in range(2):
        await seat.call("check", base=base)
        await seat.call("fold")
    with pytest.raises(StrategyRefused, match="2 parts; a sum needs at least 3"):
        await seat.call("result")


async def test_a_sum_of_nothing_has_no_answer(analysts: Analysts) -> None:
    seat = await analysts.sum(AGES, ANALYSIS)
    await seat.call("begin", current="inbox")

    with pytest.raises(StrategyRefused, match="0 parts"):
        await seat.call("result")
    await seat.call("check")
    await seat.call("fold")  # somebody who has none
    with pytest.raises(NotEstimable, match="no rows"):
        await seat.call("result")


# --- how a plan does ------------------------------------------------------------------------------


async def evaluated(preload: str, folder: Path, holdout: float, least: int = 5) -> tuple[list[float], dict[str, Any]]:
    """A node's part in how a linear plan does, and what the plan's training says of the same examples."""
    plan, tensors = Plan.linear(2, 2, metrics=["accuracy"], minimum_examples=1), table(1, 40)
    layout = layout_of(tensors)
    data = header_bytes(layout) + b"".join(tensors[spec.name].tobytes() for spec in layout.specs)
    (folder / "tensors").write_bytes(data)
    plan.save(folder / "plan")
    Study.of(plan, holdout, 3).save(folder / "study")
    engine, columns = LocalEngine(preload, seats=2, scratch=folder), (("features",), "target")
    few = Limits(minimum_examples=1)
    try:
        trained = await engine.open(
            TrainJob(folder / "plan", folder / "tensors", *columns, holdout or 0.5, 3, grant=few)
        )
        await trained.call("prepare")
        trained.inbox[:] = plan.initial
        said = await trained.call("evaluate", split="held-out")
        asked = TrainJob(
            folder / "study", folder / "tensors", *columns, holdout, 3, strategy=ANALYSIS, least_rows=least
        )
        seat = await engine.open(asked)
        assert (await seat.call("prepare"))["examples"] == round(40 * (holdout or 1))
        await seat.call("fit", round=1)
        return list(np.frombuffer(seat.outbox, np.float64)[:3]), said
    finally:
        await engine.close()


@pytest.mark.parametrize("preload", ["linear", "torch"])
async def test_how_a_plan_does_is_what_its_training_says_of_what_it_held_out(preload: str, tmp_path: Path) -> None:
    part, said = await evaluated(preload, tmp_path, 0.25)

    count, metrics = said["examples"], said["metrics"]
    assert count == 10
    np.testing.assert_allclose(part, [count, count * metrics["loss"], count * metrics["accuracy"]], rtol=1e-6)


async def test_without_a_holdout_all_examples_count(tmp_path: Path) -> None:
    part, _ = await evaluated("linear", tmp_path, 0.0)

    assert part[0] == 40


async def test_how_a_plan_does_on_a_few_examples_is_not_told(tmp_path: Path) -> None:
    with pytest.raises(QuestionRefused, match="10 rows; this node answers for 11"):
        await evaluated("linear", tmp_path, 0.25, least=11)
