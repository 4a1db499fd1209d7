"""Statistics over many nodes as if all rows lay in one place: each node's part is a vector, and vectors are added.

An analysis goes round after round: from what is known (`first`), each node computes its part from its own rows
(`local`), the parts are added - in the clear or under masks, it is the same - and the sum takes what is known a step
further (`step`), until it is done. Nothing but sums leaves a node.

Rows come as float64 arrays, one for each column, all of one length. Times are whole numbers in [0, horizon]: nodes that
rounded them differently could not be compared anyway, and a grid that all know needs no exchange of single times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float64]
Rows = Mapping[str, Vector]
Known = Mapping[str, Vector]

SETTLED = 1e-10
"""Newton's steps end when no coefficient moves by more than this, relative to its size or to one."""


class NotEstimable(ValueError):
    """The data do not determine the answer; says why."""


class Analysis(Protocol):
    """One question to all rows."""

    def first(self) -> Known:
        """What is known before any node was asked."""

    def local(self, known: Known, rows: Rows) -> Vector:
        """One node's part, to be added to the others'."""

    def step(self, known: Known, total: Vector) -> tuple[Known, bool]:
        """What is known after a round, and whether that is all. Raises NotEstimable."""


@dataclass(frozen=True)
class Moments:
    """Count, mean and variance of columns; two rounds, so that nothing cancels.

    Known at the end: `n`, `mean`, `variance` (of the sample, n - 1 below; NaN for one row), each (columns,).
    """

    columns: tuple[str, ...]

    def first(self) -> Known:
        """Nothing."""
        return {}

    def local(self, known: Known, rows: Rows) -> Vector:
        """Counts and sums; once the mean is known, squares about it."""
        table = _table(rows, self.columns)
        if "mean" not in known:
            return np.concatenate([[len(table)], table.sum(axis=0)])
        return np.asarray(np.square(table - known["mean"]).sum(axis=0))

    def step(self, known: Known, total: Vector) -> tuple[Known, bool]:
        """First the mean, then the variance."""
        if "mean" not in known:
            if total[0] < 1:
                raise NotEstimable("there are no rows")
            return {"n": total[:1], "mean": total[1:] / total[0]}, False
        n = float(known["n"][0])
        return {**known, "variance": total / (n - 1) if n > 1 else np.full_like(total, np.nan)}, True


@dataclass(frozen=True)
class Histogram:
    """How many values lie between each two edges; a value on an edge counts above it, the last edge counts below.

    Known at the end: `counts` (edges - 1,), `below` and `above` (1,).
    """

    column: str
    edges: tuple[float, ...]

    def first(self) -> Known:
        """Nothing."""
        return {}

    def local(self, known: Known, rows: Rows) -> Vector:
        """The node's own counts."""
        values = rows[self.column]
        counts, _ = np.histogram(values, bins=np.asarray(self.edges))
        outside = [np.sum(values < self.edges[0]), np.sum(values > self.edges[-1])]
        return np.concatenate([counts, outside]).astype(np.float64)

    def step(self, known: Known, total: Vector) -> tuple[Known, bool]:
        """The sum is the answer."""
        return {"counts": total[:-2], "below": total[-2:-1], "above": total[-1:]}, True


@dataclass(frozen=True)
class LinearRegression:
    """Least squares of `target` on `columns` with an intercept, which comes first; one round.

    Known at the end: `coefficients` and `errors` (standard errors), (columns + 1,), and `n`.
    """

    columns: tuple[str, ...]
    target: str

    def first(self) -> Known:
        """Nothing."""
        return {}

    def local(self, known: Known, rows: Rows) -> Vector:
        """X'X, X'y, y'y, n."""
        x, y = _design(rows, self.columns), rows[self.target]
        return np.concatenate([(x.T @ x).ravel(), x.T @ y, [y @ y, len(y)]])

    def step(self, known: Known, total: Vector) -> tuple[Known, bool]:
        """Solve the normal equations."""
        p = len(self.columns) + 1
        xx, xy, (yy, n) = total[: p * p].reshape(p, p), total[p * p : -2], total[-2:]
        if n <= p:
            raise NotEstimable(f"{n:.0f} rows for {p} coefficients")
        inverse = _inverse(xx)
        coefficients = inverse @ xy
        rest = max(float(yy - coefficients @ xy), 0.0) / (n - p)
        errors = np.sqrt(rest * np.diag(inverse))
        return {"coefficients": coefficients, "errors": errors, "n": np.array([n])}, True


@dataclass(frozen=True)
class LogisticRegression:
    """Maximum likelihood of `target` (0 or 1) on `columns` with an intercept, by Newton's method.

    Known at the end: `coefficients` and `errors`, (columns + 1,), `likelihood` (its logarithm) and `steps`.
    """

    columns: tuple[str, ...]
    target: str
    most: int = 30

    def first(self) -> Known:
        """All coefficients zero."""
        return {"coefficients": np.zeros(len(self.columns) + 1), "steps": np.zeros(1)}

    def local(self, known: Known, rows: Rows) -> Vector:
        """Gradient, information, log-likelihood."""
        x, y = _design(rows, self.columns), rows[self.target]
        linear = x @ known["coefficients"]
        chance = np.exp(-np.logaddexp(0, -linear))
        information = (x * (chance * (1 - chance))[:, None]).T @ x
        return np.concatenate([x.T @ (y - chance), information.ravel(), [np.sum(y * linear - np.logaddexp(0, linear))]])

    def step(self, known: Known, total: Vector) -> tuple[Known, bool]:
        """One step of Newton's."""
        return _newton(known, total, self.most)


@dataclass(frozen=True)
class KaplanMeier:
    """The share that survives each time on the grid, and its standard error by Greenwood; one round.

    `time` is a whole number in [0, horizon], `event` 1 where it happened and 0 where observation ended.
    Known at the end: `survival`, `errors`, `events`, `at-risk`, each (horizon + 1,).

    Source: Kaplan and Meier 1958, JASA 53(282).
    """

    time: str
    event: str
    horizon: int

    def first(self) -> Known:
        """Nothing."""
        return {}

    def local(self, known: Known, rows: Rows) -> Vector:
        """Events, and how many were at risk, at each time."""
        times, events = _times(rows[self.time], self.horizon), rows[self.event]
        happened = np.bincount(times, events, self.horizon + 1)
        return np.concatenate([happened, _at_risk(np.bincount(times, minlength=self.horizon + 1))])

    def step(self, known: Known, total: Vector) -> tuple[Known, bool]:
        """The product over the times so far."""
        events, risk = np.split(total, 2)
        lost = np.divide(events, risk, out=np.zeros_like(events), where=risk > 0)
        spread = risk * (risk - events)
        greenwood = np.cumsum(np.divide(events, spread, out=np.zeros_like(events), where=spread > 0))
        survival = np.cumprod(1 - lost)
        return {"survival": survival, "errors": survival * np.sqrt(greenwood), "events": events, "at-risk": risk}, True


@dataclass(frozen=True)
class CoxRegression:
    """Proportional hazards on `columns`, ties by Breslow, by Newton's method.

    `time` and `event` as in `KaplanMeier`. A node's part is, for each time of the grid, the events and the sums over
    those at risk of e^(xb), x e^(xb) and x x' e^(xb): the risk sets of all nodes together, exactly.
    Known at the end: `coefficients`, `errors`, (columns,), `likelihood` (the partial one's logarithm) and `steps`.

    Source: Cox 1972, JRSS B 34(2); Breslow 1974, Biometrics 30(1).
    """

    columns: tuple[str, ...]
    time: str
    event: str
    horizon: int
    most: int = 30

    def first(self) -> Known:
        """All coefficients zero."""
        return {"coefficients": np.zeros(len(self.columns)), "steps": np.zeros(1)}

    def local(self, known: Known, rows: Rows) -> Vector:
        """Events, covariates and linear predictors of those who had one, and the sums over those at risk."""
        x, times, events = _table(rows, self.columns), _times(rows[self.time], self.horizon), rows[self.event]
        linear = x @ known["coefficients"]
        risk = np.exp(linear)
        pairs = (x[:, :, None] * x[:, None, :]).reshape(len(x), x.shape[1] ** 2)
        summed = np.hstack([risk[:, None], x * risk[:, None], pairs * risk[:, None]])
        by_time = np.zeros((self.horizon + 1, summed.shape[1]))
        np.add.at(by_time, times, summed)
        happened = np.bincount(times, events, self.horizon + 1)
        return np.concatenate([happened, events @ x, [events @ linear], _at_risk(by_time).ravel()])

    def step(self, known: Known, total: Vector) -> tuple[Known, bool]:
        """Score and information from the sums, then one step of Newton's."""
        p, times = len(self.columns), self.horizon + 1
        happened, of_events, linear = total[:times], total[times : times + p], float(total[times + p])
        sums = total[times + p + 1 :].reshape(times, 1 + p + p * p)[happened > 0]
        events = happened[happened > 0]
        if not len(events):
            raise NotEstimable("nothing happened to anybody")
        zero, mean = sums[:, 0], sums[:, 1 : 1 + p] / sums[:, :1]
        square = sums[:, 1 + p :].reshape(-1, p, p) / zero[:, None, None]
        spread = square - mean[:, :, None] * mean[:, None, :]
        score, information = of_events - events @ mean, np.tensordot(events, spread, 1)
        likelihood = linear - events @ np.log(zero)
        return _newton(known, np.concatenate([score, information.ravel(), [likelihood]]), self.most)


def pooled(analysis: Analysis, nodes: list[Rows]) -> Known:
    """An analysis over the rows of several nodes, here and now. Raises NotEstimable."""
    known, done = analysis.first(), False
    while not done:
        known, done = analysis.step(known, np.sum([analysis.local(known, rows) for rows in nodes], axis=0))
    return known


def _newton(known: Known, total: Vector, most: int) -> tuple[Known, bool]:
    """A step from gradient, information and log-likelihood. At the answer, nothing moves and errors are told."""
    p = len(known["coefficients"])
    gradient, information, likelihood = total[:p], total[p:-1].reshape(p, p), total[-1:]
    inverse = _inverse(information)
    moved, before = inverse @ gradient, known["coefficients"]
    if np.all(np.abs(moved) <= SETTLED * np.maximum(np.abs(before), 1)):
        return {**known, "errors": np.sqrt(np.diag(inverse)), "likelihood": likelihood}, True
    steps = known["steps"] + 1
    if steps[0] > most:
        raise NotEstimable(f"no answer after {most} steps: perhaps some column tells the outcomes apart by itself")
    return {**known, "coefficients": before + moved, "steps": steps}, False


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


def _times(times: Vector, horizon: int) -> npt.NDArray[np.int64]:
    whole = times.astype(np.int64)
    if np.any(whole != times) or np.any(whole < 0) or np.any(whole > horizon):
        raise NotEstimable(f"times must be whole numbers from 0 to {horizon}")
    return whole


def _at_risk(by_time: npt.NDArray[np.float64] | npt.NDArray[np.int64]) -> Vector:
    """At each time, the sum over it and all later ones."""
    return np.asarray(np.flip(np.cumsum(np.flip(by_time, 0), axis=0), 0), np.float64)
