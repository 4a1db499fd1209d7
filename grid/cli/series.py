"""Puts a node's series of rounds together, for devices that come by."""

from __future__ import annotations

from pathlib import Path

from grid.node.dialects.flea_rows import FleaParts
from grid.node.dialects.model_centric_rows import PyGridParts
from grid.node.means import Means
from grid.node.series.registry import Series
from grid.node.series.rounds import Rounds
from grid.node.tasks.outcome import Spawn
from grid.store.blobs import Blobs


async def open_series(means: Means, tasks: FleaParts, spawn: Spawn, data: Path) -> PyGridParts:
    """The series of a node; their rounds go on."""
    series = Series(tasks.registry.database, tasks.models, Blobs(data / "series"), means.now)
    await series.sweep()
    rounds = Rounds(series, tasks.registry, tasks.jobs, tasks.outcome)
    spawn(rounds.keep())
    return PyGridParts(tasks.models, series, rounds)
