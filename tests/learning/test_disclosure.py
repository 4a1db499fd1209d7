"""What a node does not let out by itself."""

from __future__ import annotations

import numpy as np
import pytest

from grid.learning.analytics import Rows, first, part
from grid.learning.disclosure import check_disclosure
from grid.learning.questions import (
    CoxRegression,
    Histogram,
    KaplanMeier,
    LinearRegression,
    LogisticRegression,
    Moments,
    Question,
)
from grid.wire.problems import QuestionRefused
from tests.learning.test_analytics import COLUMNS, dealt, patients


def check(question: Question, rows: Rows, *, masked: bool, least: int = 5) -> None:
    check_disclosure(question, rows, part(question, first(question), rows), least, masked)


@pytest.mark.parametrize("masked", [False, True])
def test_few_rows_answer_nothing(masked: bool) -> None:
    few, rest = dealt(patients(), [4])

    check(Moments(("age",)), rest, masked=masked)
    check(Moments(("age",)), few, masked=masked, least=4)
    with pytest.raises(QuestionRefused, match="4 rows; this node answers for 5 and more"):
        check(Moments(("age",)), few, masked=masked)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "question",
    [
        LinearRegression(COLUMNS, "pressure"),
        LogisticRegression(COLUMNS, "cured"),
        CoxRegression((*COLUMNS, "pressure"), "time", "event", 60),
    ],
)
def test_a_fit_with_hardly_a_row_to_spare_is_the_rows(question: Question, masked: bool) -> None:
    few, enough, _ = dealt(patients(), [8, 17])

    check(question, enough, masked=masked, least=1)
    with pytest.raises(QuestionRefused, match="8 rows for 3 coefficients"):
        check(question, few, masked=masked, least=1)


@pytest.mark.parametrize(
    "question",
    [
        Histogram("age", (37.0, 38.0, 60.0)),
        KaplanMeier("time", "event", 60),
        CoxRegression(COLUMNS, "time", "event", 60),
    ],
)
def test_counts_of_a_few_leave_the_node_under_masks_alone(question: Question) -> None:
    check(question, patients(), masked=True)
    with pytest.raises(QuestionRefused, match="fewer than 5 rows: ask in a secure sum"):
        check(question, patients(), masked=False)


def test_a_cell_may_be_empty_or_full() -> None:
    rows = {"x": np.repeat([0.5, 2.5], 5)}

    check(Histogram("x", (0.0, 1.0, 2.0, 3.0)), rows, masked=False)
    with pytest.raises(QuestionRefused, match="fewer than 6"):
        check(Histogram("x", (0.0, 1.0, 2.0, 3.0)), rows, masked=False, least=6)


@pytest.mark.parametrize(
    "question",
    [
        Moments(("few",)),
        LinearRegression(("few",), "y"),
        LogisticRegression(("half",), "few"),
        LinearRegression(("y",), "few"),
    ],
)
def test_a_sum_of_ones_is_a_count(question: Question) -> None:
    rows = {"few": np.arange(40) < 3, "half": np.arange(40) % 2, "y": np.linspace(0, 1, 40)}
    numbers = {name: np.asarray(values, np.float64) for name, values in rows.items()}

    check(question, numbers, masked=True)
    check(question, numbers, masked=False, least=1)
    with pytest.raises(QuestionRefused, match="fewer than 5 rows"):
        check(question, numbers, masked=False)
    with pytest.raises(QuestionRefused, match="fewer than 5 rows"):  # of all but a few it tells of those few
        check(question, {**numbers, "few": 1 - numbers["few"]}, masked=False)


def test_products_of_two_columns_count_who_has_both() -> None:
    one, other = (np.arange(40) < 20) * 1.0, (np.arange(40) >= 18) * 1.0  # two rows have both
    rows = {"one": one, "other": other, "y": np.linspace(0, 1, 40)}

    check(Moments(("one", "other")), rows, masked=False)  # which has no products
    with pytest.raises(QuestionRefused, match="fewer than 5 rows"):
        check(LinearRegression(("one", "other"), "y"), rows, masked=False)


def test_whoever_is_lost_to_follow_up_is_counted_too() -> None:
    rows = {"time": np.repeat([1.0, 2.0, 3.0], [6, 2, 6]), "event": np.repeat([1.0, 0.0, 1.0], [6, 2, 6])}

    with pytest.raises(QuestionRefused, match="fewer than 5 rows"):
        check(KaplanMeier("time", "event", 9), rows, masked=False)
    check(KaplanMeier("time", "event", 9), {**rows, "event": np.ones(14)}, masked=False, least=2)
