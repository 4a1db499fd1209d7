"""Answers for people: a table for each kind of question."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

from grid.learning.questions import (
    CoxRegression,
    Evaluate,
    Histogram,
    KaplanMeier,
    LinearRegression,
    LogisticRegression,
    Moments,
    Question,
)

Table = tuple[list[str], list[list[str]]]
"""A head and rows."""

INTERCEPT = "(intercept)"


def table_of(question: Question, answer: Mapping[str, Sequence[float]]) -> Table:
    """What is known, as a table: a row for each column, coefficient, bin, or time at which something happened."""
    match question:
        case Evaluate(metrics=metrics):
            return ["metric", "value"], [_row(name, *answer[name]) for name in ("loss", *metrics)]
        case Moments(columns=columns):
            deviations = [math.sqrt(value) if value >= 0 else math.nan for value in answer["variance"]]
            moments = zip(columns, answer["mean"], answer["variance"], deviations, strict=True)
            return ["column", "mean", "variance", "deviation"], [_row(*row) for row in moments]
        case Histogram():
            return _bins(question, answer)
        case LinearRegression(columns=columns) | LogisticRegression(columns=columns):
            return _coefficients((INTERCEPT, *columns), answer)
        case CoxRegression(columns=columns):
            head, rows = _coefficients(columns, answer)
            ratios = [f"{math.exp(value):.4g}" for value in answer["coefficients"]]
            return [*head, "hazard ratio"], [[*row, ratio] for row, ratio in zip(rows, ratios, strict=True)]
        case KaplanMeier():
            told = zip(answer["at-risk"], answer["events"], answer["survival"], answer["errors"], strict=True)
            happened = [(time, row) for time, row in enumerate(told) if row[1]]
            return ["time", "at risk", "events", "survival", "error"], [_row(str(time), *row) for time, row in happened]


def _bins(question: Histogram, answer: Mapping[str, Sequence[float]]) -> Table:
    between = [f"{low:g} to {high:g}" for low, high in itertools.pairwise(question.edges)]
    names = [f"below {question.edges[0]:g}", *between, f"above {question.edges[-1]:g}"]
    counts = [*answer["below"], *answer["counts"], *answer["above"]]
    return [question.column, "rows"], [_row(*row) for row in zip(names, counts, strict=True)]


def _coefficients(names: Sequence[str], answer: Mapping[str, Sequence[float]]) -> Table:
    rows = zip(names, answer["coefficients"], answer["errors"], strict=True)
    return ["column", "coefficient", "error"], [_row(*row) for row in rows]


def _row(name: str, *numbers: float) -> list[str]:
    return [name, *(f"{number:.6g}" for number in numbers)]
