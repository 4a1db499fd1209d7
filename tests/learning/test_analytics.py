from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize
from sklearn.linear_model import LogisticRegression as Sklearn

from grid.learning.analytics import Rows, first, part, pooled, step
from grid.learning.questions import (
    CoxRegression,
    Histogram,
    KaplanMeier,
    LinearRegression,
    LogisticRegression,
    Moments,
    Question,
)
from grid.wire.problems import NotEstimable, QuestionRefused

COLUMNS = ("age", "dose")


def patients(count: int = 400, seed: int = 1) -> Rows:
    """Whose time to an event gets shorter with age and longer with dose; some are lost to follow-up."""
    rng = np.random.default_rng(seed)
    age, dose = rng.normal(60, 10, count), rng.integers(0, 3, count).astype(np.float64)
    hazard = 0.03 * np.exp(0.05 * (age - 60) - 0.4 * dose)
    time, end = np.ceil(rng.exponential(1 / hazard)), rng.integers(5, 60, count)
    return {
        "age": age,
        "dose": dose,
        "time": np.minimum(time, end).astype(np.float64),
        "event": (time <= end).astype(np.float64),
        "cured": (rng.random(count) < 1 / (1 + np.exp(-(0.05 * (age - 60) - 0.4 * dose)))).astype(np.float64),
        "pressure": 80 + 0.7 * age - 3 * dose + rng.normal(0, 5, count),
    }


def dealt(rows: Rows, at: list[int]) -> list[Rows]:
    """The same rows at several nodes, of which some may have none."""
    return [dict(zip(rows, part, strict=True)) for part in zip(*(np.split(c, at) for c in rows.values()), strict=True)]


ANALYSES: list[Question] = [
    Moments(COLUMNS),
    Histogram("age", (40.0, 50.0, 60.0, 70.0)),
    LinearRegression(COLUMNS, "pressure"),
    LogisticRegression(COLUMNS, "cured"),
    KaplanMeier("time", "event", 60),
    CoxRegression(COLUMNS, "time", "event", 60),
]


@pytest.mark.parametrize("analysis", ANALYSES, ids=lambda analysis: type(analysis).__name__)
@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=5))
def test_however_rows_are_dealt_to_nodes_the_answer_is_that_of_all_in_one_place(
    analysis: Question, at: list[int]
) -> None:
    rows = patients()

    together, apart = pooled(analysis, [rows]), pooled(analysis, dealt(rows, sorted(at)))

    assert together.keys() == apart.keys()
    for name, wanted in together.items():
        np.testing.assert_allclose(apart[name], wanted, rtol=1e-9, atol=1e-12, err_msg=name)


def test_moments_are_those_of_numpy() -> None:
    rows = patients()

    known = pooled(Moments(COLUMNS), [rows])

    for at, name in enumerate(COLUMNS):
        np.testing.assert_allclose(known["mean"][at], rows[name].mean())
        np.testing.assert_allclose(known["variance"][at], rows[name].var(ddof=1))


def test_a_variance_far_from_zero_does_not_cancel() -> None:
    rows = {"x": 1e9 + np.array([0.0, 1.0, 2.0])}

    assert pooled(Moments(("x",)), dealt(rows, [1]))["variance"][0] == 1.0


def test_a_histogram_counts_what_lies_outside_as_well() -> None:
    known = pooled(Histogram("x", (0.0, 1.0, 2.0)), [{"x": np.array([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0])}])

    assert (known["counts"].tolist(), known["below"][0], known["above"][0]) == ([2, 2], 1, 2)


def test_linear_regression_is_least_squares() -> None:
    rows = patients()
    x = np.column_stack([np.ones(400), rows["age"], rows["dose"]])

    known = pooled(LinearRegression(COLUMNS, "pressure"), [rows])

    wanted, rest, *_ = np.linalg.lstsq(x, rows["pressure"], rcond=None)
    np.testing.assert_allclose(known["coefficients"], wanted, rtol=1e-8)
    np.testing.assert_allclose(known["errors"], np.sqrt(np.diag(np.linalg.inv(x.T @ x)) * rest[0] / 397), rtol=1e-6)


def test_logistic_regression_is_that_of_scikit_learn() -> None:
    rows = patients()
    x = np.column_stack([rows["age"] - 60, rows["dose"]])

    known = pooled(LogisticRegression(COLUMNS, "cured"), [{**rows, "age": rows["age"] - 60}])

    theirs = Sklearn(C=np.inf, tol=1e-10, max_iter=1000).fit(x, rows["cured"])
    np.testing.assert_allclose(known["coefficients"], [*theirs.intercept_, *theirs.coef_[0]], rtol=1e-4)


def test_survival_is_that_of_the_textbook() -> None:
    # Times of remission (weeks) under 6-MP, Freireich 1963, as in most textbooks; 0 marks who was lost.
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    events = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    rows = {"time": np.array(times, np.float64), "event": np.array(events, np.float64)}

    known = pooled(KaplanMeier("time", "event", 40), dealt(rows, [8, 15]))

    told = [round(float(known["survival"][t]), 4) for t in (6, 7, 10, 13, 16, 22, 23)]
    assert told == [0.8571, 0.8067, 0.7529, 0.6902, 0.6275, 0.5378, 0.4482]
    assert round(float(known["errors"][23]), 4) == 0.1346


def test_proportional_hazards_are_the_maximum_of_breslows_likelihood() -> None:
    rows = patients()
    x, time, event = np.column_stack([rows["age"] - 60, rows["dose"]]), rows["time"], rows["event"]

    def against(b: np.ndarray) -> float:
        risk = np.exp(x @ b)
        return -sum(x[i] @ b - np.log(risk[time >= time[i]].sum()) for i in np.flatnonzero(event))

    known = pooled(CoxRegression(COLUMNS, "time", "event", 60), [{**rows, "age": rows["age"] - 60}])

    best = optimize.minimize(against, np.zeros(2), method="BFGS")
    np.testing.assert_allclose(known["coefficients"], best.x, rtol=1e-3)
    np.testing.assert_allclose(-known["likelihood"][0], best.fun, rtol=1e-9)
    assert known["coefficients"][0] > 0 > known["coefficients"][1]


@pytest.mark.parametrize(
    ("analysis", "rows", "why"),
    [
        (Moments(("x",)), {"x": np.zeros(0)}, "no rows"),
        (LinearRegression(("x",), "y"), {"x": np.arange(2.0), "y": np.arange(2.0)}, "2 rows for 2 coefficients"),
        (LinearRegression(("x", "z"), "y"), {n: np.arange(9.0) for n in "xyz"}, "follow from others"),
        (LogisticRegression(("x",), "y"), {"x": np.arange(8.0), "y": (np.arange(8) > 3) * 1.0}, "tell|apart"),
        (
            CoxRegression(("x",), "t", "e", 9),
            {"x": np.arange(3.0), "t": np.ones(3), "e": np.zeros(3)},
            "nothing happened",
        ),
    ],
)
def test_what_the_data_do_not_tell_is_said(analysis: Question, rows: Rows, why: str) -> None:
    with pytest.raises(NotEstimable, match=why):
        pooled(analysis, [rows])


@pytest.mark.parametrize(
    ("analysis", "rows", "why"),
    [
        (KaplanMeier("t", "e", 9), {"t": np.array([0.5]), "e": np.ones(1)}, "whole numbers from 0 to 9"),
        (KaplanMeier("t", "e", 9), {"t": np.array([10.0]), "e": np.ones(1)}, "whole numbers from 0 to 9"),
        (CoxRegression(("x",), "t", "e", 9), {n: np.full(3, 2.0) for n in "xte"}, "'e' has other values than 0 and 1"),
        (LogisticRegression(("x",), "y"), {n: np.full(3, 0.5) for n in "xy"}, "'y' has other values than 0 and 1"),
        (Moments(("x",)), {"x": np.array([1.0, np.nan])}, "'x' has values that are missing"),
    ],
)
def test_what_the_data_cannot_be_asked_is_said(analysis: Question, rows: Rows, why: str) -> None:
    with pytest.raises(QuestionRefused, match=why):
        pooled(analysis, [rows])


def test_an_answer_is_not_put_together_from_rounds_of_different_rows() -> None:
    question, rows = Moments(("x",)), {"x": np.arange(9.0)}
    known, _ = step(question, first(question), part(question, first(question), rows))

    with pytest.raises(NotEstimable, match="9 rows in the round before, 8 in this one"):
        step(question, known, part(question, known, {"x": np.arange(8.0)}))
