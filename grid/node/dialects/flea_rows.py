"""What Flea is told: this node's tasks in its fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from grid.node.appraisal import Score
from grid.node.models import Models
from grid.node.tasks.jobs import Jobs
from grid.node.tasks.outcome import Outcome, comparison_of
from grid.node.tasks.registry import Registry
from grid.node.tokens import Tokens
from grid.protocol.task import OPEN
from grid.store.tasks import TaskRow
from grid.transport import body
from grid.wire import flea as wire
from grid.wire.flea_repository import BASE as REPOSITORY
from grid.wire.flea_repository import CHECKPOINT


@dataclass(frozen=True)
class FleaParts:
    """The services of the node that Flea's words are calls on. `address`: where its operator says that it answers."""

    models: Models
    registry: Registry
    jobs: Jobs
    outcome: Outcome
    tokens: Tokens
    address: str | None = None

    def url(self, request: web.Request) -> str:
        """How a caller reaches this node: as its operator says, else as it did just now."""
        return self.address or f"{request.scheme}://{request.host}"


def name_of(request: web.Request) -> str:
    """The task in a path. Raises BadRequest."""
    return body.part(request, "task", wire.TaskName)


def resource(row: TaskRow, checkpoint: str) -> str:
    """A checkpoint as a path below the repository's address."""
    path = CHECKPOINT.target(model=row.model, variant=row.variant, checkpoint=checkpoint)
    return path.removeprefix(REPOSITORY)


def task_told(row: TaskRow, url: str) -> wire.TaskDetails:
    """A task, as it is told."""
    first = row.checkpoints[0]
    return wire.TaskDetails(
        task_id=row.task.id,
        model_id=row.model,
        hyperparameters_id=row.variant,
        checkpoint_id=first,
        checkpoint_ids=row.checkpoints,
        deadline=wire.told_time(row.task.ends),
        active=row.task.state == OPEN,
        state=row.task.state,
        link=row.link or (url + wire.BUNDLE.target(task=row.task.id) if row.bundle else ""),
        checkpoint_link=url + REPOSITORY + resource(row, first),
        digest=row.bundle,
        reason=row.task.reason,
        aggregated_checkpoint_id=row.result,
    )


def evaluation_told(row: TaskRow) -> wire.Evaluation:
    """What came of a task's evaluation."""
    found = comparison_of(row)
    if found is None:
        return wire.Evaluation(row.task.id, row.task.state, row.task.reason)
    return wire.Evaluation(
        task_id=row.task.id,
        state=row.task.state,
        reason=row.task.reason,
        dataset=found.on.dataset,
        aggregated=_score(row.result, found.aggregated) if found.aggregated else None,
        checkpoints=tuple(_score(name, score) for name, score in found.others.items()),
        improved=found.improved,
    )


def statistics_told(counted: Sequence[tuple[str, int, int]]) -> wire.Statistics:
    """Commitments and registrations."""
    clients = tuple(wire.ClientCount(*each) for each in counted)
    committed, registered = sum(each.commitments for each in clients), sum(each.registrations for each in clients)
    return wire.Statistics(committed, registered, clients)


def _score(name: str, score: Score) -> wire.Score:
    return wire.Score(name, score.examples, score.loss, dict(score.metrics))
