"""Questions as files, and their answers for people."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from grid.learning.analytics import first, part, pooled, step
from grid.learning.answers import INTERCEPT
from grid.learning.arrays import write_arrays
from grid.learning.layouts import model_layout
from grid.learning.plan import Plan
from grid.learning.questions import (
    CoxRegression,
    Evaluate,
    Histogram,
    KaplanMeier,
    LinearRegression,
    LogisticRegression,
    Moments,
    Question,
    part_numbers,
)
from grid.learning.scheme import Scheme
from grid.learning.strategy import ANALYSIS, FEDAVG, PRESETS, travelling
from grid.learning.study import QUESTION, Study, read_bundle, read_words
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.wire.problems import GridError, PlanRefused, QuestionRefused, StrategyRefused, TensorsRefused
from tests.learning.test_analytics import ANALYSES, COLUMNS, patients

AGES = Moments(("age",))


def answered(question: Question) -> Study:
    """A study with the answer for some patients."""
    study = Study(question)
    known = model_layout(study.layout, ANALYSIS)
    data = bytearray(known.size)
    write_arrays(known, pooled(question, [patients()]), data)
    return study.trained(data)


@pytest.mark.parametrize("question", ANALYSES, ids=lambda question: type(question).__name__)
def test_what_is_known_and_added_has_the_size_that_is_told_before(question: Question) -> None:
    known, rows = first(question), patients()

    for _ in range(2):
        own = part(question, known, rows)
        assert own.shape == (part_numbers(question),)
        told, done = step(question, known, own)
        assert {name: value.shape for name, value in told.items()} == {n: v.shape for n, v in first(question).items()}
        if done:
            break
        known = told


@pytest.mark.parametrize("question", ANALYSES, ids=lambda question: type(question).__name__)
def test_a_study_is_a_file_that_says_all_of_it(question: Question, tmp_path: Path) -> None:
    study = answered(question)

    again = read_bundle(study.save(tmp_path / "study.safetensors").read_bytes())

    assert isinstance(again, Study)
    assert (again.question, again.digest, again.answer) == (question, study.digest, study.answer)
    assert again.layout == study.layout


def test_a_plan_is_no_study() -> None:
    plan = Plan.linear(3, 1)

    assert isinstance(read_bundle(plan.bundle()), Plan)
    with pytest.raises(PlanRefused, match="grid-question"):
        Study.from_bundle(plan.bundle())


def test_only_what_is_known_goes_down_and_only_a_part_goes_up() -> None:
    scheme = Scheme(Study(AGES), ANALYSIS)

    assert [spec.name for spec in scheme.model.specs] == ["n", "steps", "mean", "variance"]
    assert [(spec.name, spec.shape) for spec in scheme.update.specs] == [("part:sum", (2,))]
    assert [spec.shape for spec in Scheme(Study(AGES), travelling(ANALYSIS, "masked")).update.specs] == [(10,)]


def test_a_question_is_not_trained_and_a_plan_not_added_up() -> None:
    for plan, strategy in ((Study(AGES), FEDAVG), (Plan.linear(3, 1), ANALYSIS)):
        with pytest.raises(StrategyRefused, match="added up"):
            Scheme(plan, strategy)


@pytest.mark.parametrize(("name", "part"), [("fedadam", "server"), ("scaffold", "client"), ("fedbuff", "timing")])
def test_nothing_of_training_goes_with_an_analysis(name: str, part: str) -> None:
    with pytest.raises(StrategyRefused, match=r"adds up|means of updates|staleness"):
        travelling(replace(ANALYSIS, **{part: getattr(PRESETS[name], part)}))


@pytest.mark.parametrize("upload", ["int8", "top-k"])
def test_what_is_added_up_travels_exactly(upload: str) -> None:
    with pytest.raises(StrategyRefused, match="exact"):
        travelling(ANALYSIS, upload)


def test_how_a_plan_does_travels_with_the_plan(tmp_path: Path) -> None:
    plan = Plan.mlp([3, 4, 2], metrics=["accuracy"], seed=1)
    study = Study.of(plan, holdout=0.2, seed=7)

    again = read_bundle(study.save(tmp_path / "study").read_bytes())

    assert isinstance(again, Study)
    assert again.plan is not None
    assert (again.plan.initial, again.plan.recipe, again.digest) == (plan.initial, plan.recipe, study.digest)
    assert again.question == Evaluate(("accuracy",), 0.2, 7)
    assert [spec.name for spec in Scheme(again, ANALYSIS).model.specs] == ["n", "steps", "loss", "accuracy"]


def test_the_parts_of_how_a_plan_does_make_its_mean_over_all_examples() -> None:
    question = Evaluate(("accuracy",))
    total = np.array([10.0, 10 * 0.5, 10 * 0.9]) + np.array([30.0, 30 * 1.5, 30 * 0.1])

    known, done = step(question, first(question), total)

    assert done
    assert (known["n"][0], known["loss"][0], known["accuracy"][0]) == (40.0, 1.25, pytest.approx(0.3))


def test_an_evaluation_is_of_a_plan_and_tells_its_metrics() -> None:
    plan = Plan.mlp([3, 2], metrics=["accuracy"])

    for question, of in ((Evaluate(()), None), (AGES, plan)):
        with pytest.raises(QuestionRefused, match="one of a plan"):
            Study(question, plan=of)
    with pytest.raises(QuestionRefused, match="metrics of its plan"):
        Study(Evaluate(("mse",)), plan=plan)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "why"),
    [
        (Moments(("age", "age")), "named twice"),
        (LinearRegression(("age",), "age"), "named twice"),
        (Histogram("age", (1.0, 1.0)), "go up"),
        (Histogram("age", (1.0, math.inf)), "not a finite number"),
        (CoxRegression(tuple(f"c{n}" for n in range(100)), "t", "e", 100_000), "at most"),
    ],
)
def test_what_cannot_be_asked_is_refused(question: Question, why: str) -> None:
    with pytest.raises(QuestionRefused, match=why):
        Study(question)


@pytest.mark.parametrize(
    "words",
    [
        {},
        {"name": "median", "columns": ["age"]},
        {"name": "moments"},
        {"name": "moments", "columns": []},
        {"name": "moments", "columns": ["age"], "code": "1"},
        {"name": "kaplan-meier", "time": "t", "event": "e", "horizon": 0},
        "moments",
        None,
    ],
)
def test_words_that_are_no_question_are_refused(words: object) -> None:
    with pytest.raises(QuestionRefused, match="cannot be read"):
        read_words(words)


@given(st.binary(max_size=300))
def test_bytes_that_are_no_bundle_are_refused(data: bytes) -> None:
    with pytest.raises(GridError):
        read_bundle(data)


def test_a_pickle_is_not_even_looked_at() -> None:
    with pytest.raises(PlanRefused, match="can run code"):
        read_bundle(pickle.dumps({"a": 1}))


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout([TensorSpec("n", "F64", (1,))]), None),
        (None, json.dumps({"columns": ["age"], "name": "moments"}, indent=1)),
        (None, "nonsense"),
    ],
)
def test_a_bundle_that_is_not_as_we_write_it_is_refused(layout: Layout | None, words: str | None) -> None:
    study = Study(AGES)
    layout = layout or model_layout(study.layout, ANALYSIS)
    header = header_bytes(layout, {QUESTION: words or study.metadata[QUESTION]})

    with pytest.raises((PlanRefused, QuestionRefused, TensorsRefused)):
        read_bundle(header + bytes(layout.size))


def test_values_of_another_length_are_refused() -> None:
    with pytest.raises(TensorsRefused, match="another length"):
        Study(AGES, {"n": b""})


# --- what a person sees -----------------------------------------------------------------------------


def test_an_answer_is_a_table() -> None:
    head, rows = answered(Moments(COLUMNS)).table()
    assert (head, [row[0] for row in rows]) == (["column", "mean", "variance", "deviation"], list(COLUMNS))

    head, rows = answered(LinearRegression(COLUMNS, "pressure")).table()
    assert (head, [row[0] for row in rows]) == (["column", "coefficient", "error"], [INTERCEPT, *COLUMNS])

    head, rows = answered(LogisticRegression(COLUMNS, "cured")).table()
    assert [row[0] for row in rows] == [INTERCEPT, *COLUMNS]

    head, rows = answered(CoxRegression(COLUMNS, "time", "event", 60)).table()
    assert float(rows[0][3]) == pytest.approx(math.exp(float(rows[0][1])), rel=1e-3)

    head, rows = answered(Histogram("age", (40.0, 60.0))).table()
    assert [row[0] for row in rows] == ["below 40", "40 to 60", "above 60"]
    assert sum(float(row[1]) for row in rows) == 400

    head, rows = Study.of(Plan.mlp([3, 2], metrics=["accuracy"])).table()
    assert (head, [row[0] for row in rows]) == (["metric", "value"], ["loss", "accuracy"])

    head, rows = answered(KaplanMeier("time", "event", 60)).table()
    survival = [float(row[3]) for row in rows]
    assert survival == sorted(survival, reverse=True)
    assert all(float(row[2]) > 0 for row in rows)


def test_a_study_says_what_it_asks_and_of_how_many_rows_it_knows() -> None:
    assert "age" in repr(Study(AGES))
    assert "answer from" not in repr(Study(AGES))
    assert "400 rows" in repr(answered(AGES))
    assert "<th>mean</th>" in answered(AGES)._repr_html_()
    assert "&lt;b&gt;" in Study(Moments(("<b>",)))._repr_html_()
