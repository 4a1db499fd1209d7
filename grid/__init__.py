"""The grid: federated learning on data that stays where it is.

    g = grid.connect("http://127.0.0.1:5000")
    run = g.train(grid.Plan.mlp([64, 128, 10]), data="#digits", rounds=10)
    answer = g.analyse(grid.Moments(("age",)), data="#trial").result().plan.answer

`grid.aio.connect` is the same for async programs. Every refusal is a `grid.GridError`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from grid import aio
    from grid.cli.connect import connect
    from grid.crypto.identity import Identity
    from grid.learning.plan import Plan
    from grid.learning.private import Privacy
    from grid.learning.questions import (
        CoxRegression,
        Histogram,
        KaplanMeier,
        LinearRegression,
        LogisticRegression,
        Moments,
    )
    from grid.wire.problems import GridError

__all__ = [
    "CoxRegression", "GridError", "Histogram", "Identity", "KaplanMeier", "LinearRegression", "LogisticRegression",
    "Moments", "Plan", "Privacy", "aio", "connect",
]  # fmt: skip

_QUESTIONS = ("CoxRegression", "Histogram", "KaplanMeier", "LinearRegression", "LogisticRegression", "Moments")
_WHERE = dict.fromkeys(_QUESTIONS, "grid.learning.questions") | {
    "GridError": "grid.wire.problems",
    "Identity": "grid.crypto.identity",
    "Plan": "grid.learning.plan",
    "Privacy": "grid.learning.private",
    "connect": "grid.cli.connect",
}


def __getattr__(name: str) -> Any:
    # Daemons import this package too, and must not load a client for it.
    if name == "aio":
        return import_module("grid.aio")
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'grid' has no attribute {name!r}")
