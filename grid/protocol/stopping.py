"""When a run has learned enough: early stopping on one metric.

L. Prechelt, "Early Stopping - But When?" (1998), the criterion UP in its usual form: stop once the metric was not
better for `patience` measurements, and use the best checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from msgspec import ValidationError, convert

from grid.wire.problems import RunRefused
from grid.wire.runs import Stopping


class Verdict(NamedTuple):
    """The `best` round so far and its `value`, how many rounds `since` were no better, and whether that is enough.

    No round was measured yet, or none gave a number: `best` is 0.
    """

    best: int
    value: float
    since: int
    over: bool


BETTER_HIGH = frozenset({"accuracy", "top5"})
"""Metrics of which more is better; of all others, losses and errors, less is."""


def stopping(words: str) -> Stopping:
    """A rule in words, `METRIC[:PATIENCE[:MIN_DELTA]]`: `accuracy:5` stops after 5 rounds without a better accuracy.

    Raises:
        RunRefused: these are not such words.
    """
    metric, _, rest = words.partition(":")
    patience, _, delta = rest.partition(":")
    told = {"metric": metric, "mode": "max" if metric in BETTER_HIGH else "min"}
    try:
        numbers = {**({"patience": int(patience)} if rest else {}), **({"min-delta": float(delta)} if delta else {})}
        return convert(told | numbers, Stopping)
    except (ValueError, ValidationError):
        raise RunRefused(f"{words!r} is no rule for stopping; say METRIC:PATIENCE, as accuracy:5") from None


def judge(rule: Stopping, measured: Iterable[tuple[int, float]]) -> Verdict:
    """What the rule says of the rounds that were measured: pairs of round and metric, in order.

    A round is the best if it is better by more than `min_delta` than the best one before; what is no number (NaN:
    none could be measured) is never better. The first round that makes it enough decides: what comes
    after can be the best, and is no reason to go on.
    """
    best, value, since, over = 0, float("nan"), 0, False
    for number, metric in measured:
        if _better(rule, metric, value):
            best, value, since = number, metric, 0
        else:
            since += 1
        over = over or since >= rule.patience
    return Verdict(best, value, since, over)


def reason(rule: Stopping, verdict: Verdict) -> str:
    """Why a run ends, for a person."""
    if not verdict.best:
        return f"{rule.metric} could not be measured in {verdict.since} rounds"
    return f"{rule.metric} was best in round {verdict.best} ({verdict.value:.6g}), {verdict.since} rounds ago"


def _better(rule: Stopping, metric: float, than: float) -> bool:
    if metric != metric or than != than:  # one of them is NaN
        return metric == metric
    gain = metric - than if rule.mode == "max" else than - metric
    return gain > rule.min_delta
