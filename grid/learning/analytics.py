"""Statistics over many nodes as if all rows lay in one place: each node's part is a vector, and vectors are added.

An analysis goes round after round: from what is known (`first`), each node computes its part from its own rows
(`part`), the parts are added - in the clear or under masks, it is the same - and the sum takes what is known a step
further (`step`), until it is done. Nothing but sums leaves a node.

Rows come as float64 arrays, one for each column, all of one length. Times are whole numbers in [0, horizon]: nodes that
rounded them differently could not be compared anyway, and a grid that all know needs no exchange of single times.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from grid.learning.questions import (
    CoxRegression,
    Evaluate,
    Histogram,
    KaplanMeier,
    LinearRegression,
    LogisticRegression,
    Moments,
    Question,
    coefficients,
    known_layout,
    reads,
)
from grid.wire.problems import NotEstimable, QuestionRefused

Vector = npt.NDArray[np.float64]
Rows = Mapping[str, Vector]
Known = Mapping[str, Vector]

Asked = Moments | Histogram | LinearRegression | LogisticRegression | KaplanMeier | CoxRegression
"""Questions to rows. How a plan does (`Evaluate`), only those who can compute it can say."""

SETTLED = 1e-10
"""Newton's steps end when no coefficient moves by more than this, relative to its size or to one."""


def first(question: Question) -> Known:
    """What is known before any node was asked: nothing, in zeros."""
    return {spec.name: np.zeros(spec.shape) for spec in known_layout(question).specs}


def part(question: Asked, known: Known, rows: Rows) -> Vector:
    """One node's part, (`questions.part_numbers`,), to be added to the others'.

    Raises:
        QuestionRefused: a column holds what the question cannot be asked of.
    """
    check_rows(question, rows)
    count = [float(len(rows[reads(question)[0]]))]
    return np.concatenate([count, _own(question, known, rows)])


def step(question: Question, known: Known, total: Vector) -> tuple[Known, bool]:
    """What is known after a round, and whether that is all.

    Raises:
        NotEstimable: the rows do not determine the answer, or they are others than in the round before.
    """
    n = total[0]
    if n < 1:
        raise NotEstimable("there are no rows")
    if known["steps"][0] and n != known["n"][0]:
        raise NotEstimable(f"other nodes answered: {known['n'][0]:.0f} rows in the round before, {n:.0f} in this one")
    told = {**known, "n": total[:1], "steps": known["steps"] + 1}
    match question:
        case Evaluate(metrics=metrics):
            means = total[1:, None] / n
            return {**told, **dict(zip(("loss", *metrics), means, strict=True))}, True
        case Moments():
            return _moments(told, total[1:])
        case Histogram():
            return {**told, "counts": total[1:-2], "below": total[-2:-1], "above": total[-1:]}, True
        case LinearRegression():
            return {**told, **_least_squares(coefficients(question), n, total[1:])}, True
        case LogisticRegression(most=most):
            return _newton(told, total[1:], most)
        case KaplanMeier():
            return {**told, **_survival(*np.split(total[1:], 2))}, True
        case CoxRegression(most=most):
            return _newton(told, _partial_likelihood(question, total[1:]), most)


def check_rows(question: Asked, rows: Rows) -> None:
    """Whether these rows can be asked. Raises QuestionRefused."""
    for name in reads(question):
        if not np.isfinite(rows[name]).all():
            raise QuestionRefused(f"column {name!r} has values that are missing or not finite")
    match question:
        case LogisticRegression(target=name) | KaplanMeier(event=name) | CoxRegression(event=name):
            if not np.isin(rows[name], (0.0, 1.0)).all():
                raise QuestionRefused(f"column {name!r} has other values than 0 and 1")
    match question:
        case KaplanMeier(time=name, horizon=horizon) | CoxRegression(time=name, horizon=horizon):
            if np.any(rows[name] != np.floor(rows[name])) or np.any((rows[name] < 0) | (rows[name] > horizon)):
                raise QuestionRefused(f"times in {name!r} must be whole numbers from 0 to {horizon}")


def pooled(question: Asked, nodes: list[Rows]) -> Known:
    """An analysis over the rows of several nodes, here and now. Raises NotEstimable, QuestionRefused."""
    known, done = first(question), False
    while not done:
        known, done = step(question, known, np.sum([part(question, known, rows) for rows in nodes], axis=0))
    return known


# --- what a node adds -----------------------------------------------------------------------------


def _own(question: Asked, known: Known, rows: Rows) -> Vector:
    match question:
        case Moments(columns=columns):
            table = _table(rows, columns)
            return np.asarray((np.square(table - known["mean"]) if known["steps"][0] else table).sum(axis=0))
        case Histogram(column=column, edges=edges):
            values = rows[column]
            counts, _ = np.histogram(values, bins=np.asarray(edges))
            return np.concatenate([counts, [np.sum(values < edges[0]), np.sum(values > edges[-1])]]).astype(np.float64)
        case LinearRegression(columns=columns, target=target):
            x, y = _design(rows, columns), rows[target]
            return np.concatenate([(x.T @ x).ravel(), x.T @ y, [y @ y]])
        case LogisticRegression(columns=columns, target=target):
            return _logistic(known["coefficients"], _design(rows, columns), rows[target])
        case KaplanMeier(time=time, event=event, horizon=horizon):
            times = rows[time].astype(np.int64)
            happened = np.bincount(times, rows[event], horizon + 1)
            return np.concatenate([happened, _at_risk(np.bincount(times, minlength=horizon + 1))])
        case CoxRegression():
            return _risk_sets(question, known["coefficients"], rows)


def _logistic(known: Vector, x: Vector, y: Vector) -> Vector:
    """Gradient, information, log-likelihood."""
    linear = x @ known
    chance = np.exp(-np.logaddexp(0, -linear))
    information = (x * (chance * (1 - chance))[:, None]).T @ x
    return np.concatenate([x.T @ (y - chance), information.ravel(), [np.sum(y * linear - np.logaddexp(0, linear))]])


def _risk_sets(question: CoxRegression, known: Vector, rows: Rows) -> Vector:
    """Events, covariates and linear predictors of those who had one, and the sums over those at risk."""
    x, times, events = _table(rows, question.columns), rows[question.time].astype(np.int64), rows[question.event]
    linear = x @ known
    risk = np.exp(linear)
    pairs = (x[:, :, None] * x[:, None, :]).reshape(len(x), x.shape[1] ** 2)
    summed = np.hstack([risk[:, None], x * risk[:, None], pairs * risk[:, None]])
    by_time = np.zeros((question.horizon + 1, summed.shape[1]))
    np.add.at(by_time, times, summed)
    happened = np.bincount(times, events, question.horizon + 1)
    return np.concatenate([happened, events @ x, [events @ linear], _at_risk(by_time).ravel()])


# --- what the sum tells -----------------------------------------------------------------------------


def _moments(told: Known, total: Vector) -> tuple[Known, bool]:
    """First the mean, then the variance."""
    n = float(told["n"][0])
    if told["steps"][0] == 1:
        return {**told, "mean": total / n}, False
    return {**told, "variance": total / (n - 1) if n > 1 else np.full_like(total, np.nan)}, True


def _least_squares(p: int, n: float, total: Vector) -> Known:
    """The normal equations, solved."""
    xx, xy, yy = total[: p * p].reshape(p, p), total[p * p : -1], total[-1]
    if n <= p:
        raise NotEstimable(f"{n:.0f} rows for {p} coefficients")
    inverse = _inverse(xx)
    found = inverse @ xy
    rest = max(float(yy - found @ xy), 0.0) / (n - p)
    return {"coefficients": found, "errors": np.sqrt(rest * np.diag(inverse))}


def _survival(events: Vector, risk: Vector) -> Known:
    """The product over the times so far; Greenwood's formula."""
    lost = np.divide(events, risk, out=np.zeros_like(events), where=risk > 0)
    spread = risk * (risk - events)
    greenwood = np.cumsum(np.divide(events, spread, out=np.zeros_like(events), where=spread > 0))
    survival = np.cumprod(1 - lost)
    return {"survival": survival, "errors": survival * np.sqrt(greenwood), "events": events, "at-risk": risk}


def _partial_likelihood(question: CoxRegression, total: Vector) -> Vector:
    """Score, information and log-likelihood, from the sums over risk sets."""
    p, times = len(question.columns), question.horizon + 1
    happened, of_events, linear = total[:times], total[times : times + p], float(total[times + p])
    sums = total[times + p + 1 :].reshape(times, 1 + p + p * p)[happened > 0]
    events = happened[happened > 0]
    if not len(events):
        raise NotEstimable("nothing happened to anybody")
    zero, mean = sums[:, 0], sums[:, 1 : 1 + p] / sums[:, :1]
    square = sums[:, 1 + p :].reshape(-1, p, p) / zero[:, None, None]
    spread = square - mean[:, :, None] * mean[:, None, :]
    score, information = of_events - events @ mean, np.tensordot(events, spread, 1)
    return np.concatenate([score, information.ravel(), [linear - events @ np.log(zero)]])


def _newton(told: Known, total: Vector, most: int) -> tuple[Known, bool]:
    """A step from gradient, information and log-likelihood. At the answer, nothing moves and errors are told."""
    p = len(told["coefficients"])
    gradient, information, likelihood = total[:p], total[p:-1].reshape(p, p), total[-1:]
    inverse = _inverse(information)
    moved, before = inverse @ gradient, told["coefficients"]
    if np.all(np.abs(moved) <= SETTLED * np.maximum(np.abs(before), 1)):
        return {**told, "errors": np.sqrt(np.diag(inverse)), "likelihood": likelihood}, True
    if told["steps"][0] > most:
        raise NotEstimable(f"no answer after {most} steps: perhaps some column tells the outcomes apart by itself")
    return {**told, "coefficients": before + moved}, False


def _inverse(matrix: Vector) -> Vector:
    """The inverse of a sum of squares. Scaled first, so that units do not matter."""
    scale = np.sqrt(np.diag(matrix))
    if not np.isfinite(matrix).all() or not (scale > 0).all():
        raise NotEstimable("a column is the same in every row that counts")
    scaled = matrix / np.outer(scale, scale)
    if np.linalg.cond(scaled) > 1e12:
        raise NotEstimable("some columns follow from others, or tell the outcomes apart by themselves")
    return np.asarray(np.linalg.inv(scaled) / np.outer(scale, scale), np.float64)


def _table(rows: Rows, columns: tuple[str, ...]) -> Vector:
    return np.column_stack([rows[name] for name in columns])


def _design(rows: Rows, columns: tuple[str, ...]) -> Vector:
    table = _table(rows, columns)
    return np.hstack([np.ones((len(table), 1)), table])


def _at_risk(by_time: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Vector:
    """At each time, the sum over it and all later ones."""
    return np.asarray(np.flip(np.cumsum(np.flip(by_time, 0), axis=0), 0), np.float64)
