"""The grid: federated learning on data that stays where it is.

    g = grid.connect("http://127.0.0.1:5000")
    run = g.train(grid.Plan.mlp([64, 128, 10]), data="#digits", rounds=10)

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
    from grid.wire.problems import GridError

__all__ = ["GridError", "Identity", "Plan", "aio", "connect"]

_WHERE = {
    "GridError": "grid.wire.problems",
    "Identity": "grid.crypto.identity",
    "Plan": "grid.learning.plan",
    "connect": "grid.cli.connect",
}


def __getattr__(name: str) -> Any:
    # Daemons import this package too, and must not load a client for it.
    if name == "aio":
        return import_module("grid.aio")
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'grid' has no attribute {name!r}")
