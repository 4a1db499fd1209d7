"""Puts a node's models and its tasks for devices together."""

from __future__ import annotations

from pathlib import Path

from grid.node.dialects.flea_rows import FleaParts
from grid.node.means import Means
from grid.node.models import Models
from grid.node.tasks.jobs import Jobs
from grid.node.tasks.outcome import Outcome, Spawn
from grid.node.tasks.registry import Registry
from grid.node.tokens import Tokens
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.transport.metrics import Metrics


async def open_tasks(
    means: Means, database: Database, log: EventLog, tokens: Tokens, spawn: Spawn, data: Path, address: str | None
) -> FleaParts:
    """The models of a node and its tasks for devices; what was owed to them when it stopped goes on."""
    models = Models(database, Blobs(data / "models"), means.now)
    registry = Registry(database, log, models, means.now)
    jobs = Jobs(registry, Blobs(data / "tasks"))
    outcome = Outcome(means, registry, jobs, spawn)
    await models.sweep()
    await jobs.sweep()
    await outcome.resume()
    spawn(registry.keep())
    return FleaParts(models, registry, jobs, outcome, tokens, address)


def show_tasks(metrics: Metrics, parts: FleaParts) -> None:
    """Their figures, for whoever watches the node."""
    figures = parts.registry.figures
    metrics.gauge("grid_tasks_open", "Open tasks for devices", lambda: figures().open)
    metrics.gauge("grid_task_commitments", "Commitments to tasks", lambda: figures().commitments)
    metrics.gauge("grid_task_registrations", "Updates handed in for tasks", lambda: figures().registrations)
