"""Puts a node's fleets of devices together, and its series of rounds for those that come by."""

from __future__ import annotations

from pathlib import Path

from grid.node.dialects.flaas_rows import FlaasParts
from grid.node.dialects.flea_rows import FleaParts
from grid.node.dialects.model_centric_rows import PyGridParts
from grid.node.fleet.registry import Fleets
from grid.node.fleet.rounds import Rounds
from grid.node.means import Means
from grid.node.series import rounds as of_series
from grid.node.series.registry import Series
from grid.node.tasks.outcome import Spawn
from grid.store.blobs import Blobs
from grid.store.events import EventLog


def open_fleets(means: Means, log: EventLog, tasks: FleaParts, spawn: Spawn, data: Path) -> FlaasParts:
    """The fleets of a node, over its models and tasks; its scheduler looks at them from now on."""
    fleets = Fleets(tasks.registry.database, tasks.models, means.now)
    rounds = Rounds(fleets, tasks.registry, tasks.jobs, tasks.outcome, lambda _: None)
    spawn(rounds.keep())
    return FlaasParts(means.house, fleets, rounds, tasks.jobs, tasks.outcome, log, data / "samples")


async def open_series(means: Means, tasks: FleaParts, spawn: Spawn, data: Path) -> PyGridParts:
    """The series of a node; their rounds go on."""
    series = Series(tasks.registry.database, tasks.models, Blobs(data / "series"), means.now)
    await series.sweep()
    rounds = of_series.Rounds(series, tasks.registry, tasks.jobs, tasks.outcome)
    spawn(rounds.keep())
    return PyGridParts(tasks.models, series, rounds)
