"""Questions to all rows of a grid, as data: what is asked, which columns it reads, what each node adds to its answer.

What a node adds, its part, is one vector of float64 whose first number counts its rows. What is known after each round
has names and lengths; `n` (rows of all nodes) and `steps` (rounds so far) are always among it. The arithmetic is in
`analytics`.
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated

from msgspec import Meta

from grid.learning.recipe import Metric, Part
from grid.learning.tensors import Layout, TensorSpec
from grid.wire.problems import QuestionRefused

Word = Annotated[str, Meta(min_length=1, max_length=512, description="A column, or column=word: 1 where that is so")]
Words = Annotated[tuple[Word, ...], Meta(min_length=1, max_length=200)]
Edges = Annotated[tuple[float, ...], Meta(min_length=2, max_length=10_001)]
Horizon = Annotated[int, Meta(ge=1, le=100_000)]
Steps = Annotated[int, Meta(ge=1, le=200)]

LEAST_ROWS = 5
"""Rows behind a number that a node lets out by itself, unless its owner says otherwise."""

MAX_NUMBERS = 1 << 24
"""Numbers of a part: whoever adds more hands out rows rather than sums."""


class Moments(Part, frozen=True, tag="moments", tag_field="name"):
    """Mean and variance of columns; two rounds, so that nothing cancels.

    Known at the end: `mean` and `variance` (of the sample, n - 1 below; NaN for one row), each (columns,).
    """

    columns: Words


class Histogram(Part, frozen=True, tag="histogram", tag_field="name"):
    """How many values lie between each two edges; a value on an edge counts above it, at the last edge below it.

    Known at the end: `counts` (edges - 1,), `below` and `above` (1,).
    """

    column: Word
    edges: Edges


class LinearRegression(Part, frozen=True, tag="linear", tag_field="name"):
    """Least squares of `target` on `columns` with an intercept, which comes first.

    Known at the end: `coefficients` and `errors` (standard errors), (columns + 1,).
    """

    columns: Words
    target: Word


class LogisticRegression(Part, frozen=True, tag="logistic", tag_field="name"):
    """Maximum likelihood of `target` (0 or 1) on `columns` with an intercept, by at most `most` steps of Newton's.

    Known at the end: `coefficients` and `errors`, (columns + 1,), and `likelihood` (its logarithm).
    """

    columns: Words
    target: Word
    most: Steps = 30


class KaplanMeier(Part, frozen=True, tag="kaplan-meier", tag_field="name"):
    """The share that survives each time, and its standard error by Greenwood.

    `time` is a whole number in [0, horizon], `event` 1 where it happened and 0 where observation ended.
    Known at the end: `survival`, `errors`, `events`, `at-risk`, each (horizon + 1,).

    Source: Kaplan and Meier 1958, JASA 53(282).
    """

    time: Word
    event: Word
    horizon: Horizon


class CoxRegression(Part, frozen=True, tag="cox", tag_field="name"):
    """Proportional hazards on `columns`, ties by Breslow, by at most `most` steps of Newton's.

    `time` and `event` as in `KaplanMeier`. A node's part is, for each time, the events and the sums over those at risk
    of e^(xb), x e^(xb) and x x' e^(xb): the risk sets of all nodes together, exactly.
    Known at the end: `coefficients`, `errors`, (columns,), and `likelihood` (the partial one's logarithm).

    Source: Cox 1972, JRSS B 34(2); Breslow 1974, Biometrics 30(1).
    """

    columns: Words
    time: Word
    event: Word
    horizon: Horizon
    most: Steps = 30


class Evaluate(Part, frozen=True, tag="evaluate", tag_field="name"):
    """How the plan that travels with it does, as it is: its loss and `metrics`, on the mean over all examples.

    With a `holdout`, on those examples only that a training with this and `seed` held out. Known: `loss`, each metric.
    """

    metrics: Annotated[tuple[Metric, ...], Meta(max_length=16)] = ()
    holdout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    seed: Annotated[int, Meta(ge=0, le=2**63 - 1)] = 0


Question = Evaluate | Moments | Histogram | LinearRegression | LogisticRegression | KaplanMeier | CoxRegression


def checked(question: Question) -> Question:
    """The same question, if it can be asked.

    Raises:
        QuestionRefused: the detail says why not.
    """
    if len(set(reads(question))) < len(reads(question)):
        raise QuestionRefused("a column is named twice")
    if (numbers := part_numbers(question)) > MAX_NUMBERS:
        raise QuestionRefused(f"each node would add {numbers:,} numbers; at most {MAX_NUMBERS:,} are taken")
    if isinstance(question, Histogram):
        if not all(map(math.isfinite, question.edges)):
            raise QuestionRefused("an edge of a histogram is not a finite number")
        if any(low >= high for low, high in itertools.pairwise(question.edges)):
            raise QuestionRefused("the edges of a histogram go up")
    return question


def reads(question: Question) -> tuple[str, ...]:
    """The columns that it looks at."""
    match question:
        case Evaluate():
            return ()
        case Moments(columns=columns):
            return columns
        case Histogram(column=column):
            return (column,)
        case LinearRegression(columns=columns, target=target) | LogisticRegression(columns=columns, target=target):
            return (*columns, target)
        case KaplanMeier(time=time, event=event):
            return time, event
        case CoxRegression(columns=columns, time=time, event=event):
            return (*columns, time, event)


def most_rounds(question: Question) -> int:
    """In how many rounds it is answered, or cannot be. Newton's last one tells that nothing moves."""
    match question:
        case LogisticRegression(most=most) | CoxRegression(most=most):
            return most + 1
        case Moments():
            return 2
        case _:
            return 1


def coefficients(question: Question) -> int:
    """How many numbers the rows have to determine together; 0 where nothing is fitted."""
    match question:
        case LinearRegression(columns=columns) | LogisticRegression(columns=columns):
            return len(columns) + 1
        case CoxRegression(columns=columns):
            return len(columns)
        case _:
            return 0


def part_numbers(question: Question) -> int:
    """How long a node's part is: its rows are counted first."""
    p = coefficients(question)
    match question:
        case Evaluate(metrics=metrics):
            return 1 + 1 + len(metrics)
        case Moments(columns=columns):
            return 1 + len(columns)
        case Histogram(edges=edges):
            return 1 + len(edges) + 1
        case LinearRegression() | LogisticRegression():
            return 1 + p + p * p + 1
        case KaplanMeier(horizon=horizon):
            return 1 + 2 * (horizon + 1)
        case CoxRegression(horizon=horizon):
            return 1 + (horizon + 1) + p + 1 + (horizon + 1) * (1 + p + p * p)


def known_layout(question: Question) -> Layout:
    """What is known after each round, by name: float64."""
    match question:
        case Evaluate(metrics=metrics):
            told = dict.fromkeys(("loss", *metrics), 1)
        case Moments(columns=columns):
            told = dict.fromkeys(("mean", "variance"), len(columns))
        case Histogram(edges=edges):
            told = {"counts": len(edges) - 1, "below": 1, "above": 1}
        case KaplanMeier(horizon=horizon):
            told = dict.fromkeys(("survival", "errors", "events", "at-risk"), horizon + 1)
        case _:
            told = dict.fromkeys(("coefficients", "errors"), coefficients(question))
            told |= {} if isinstance(question, LinearRegression) else {"likelihood": 1}
    return Layout(TensorSpec(name, "F64", (length,)) for name, length in {"n": 1, "steps": 1, **told}.items())
