"""Flea for task generators and model owners: tasks registered, closed and reopened, summed, evaluated, and counted."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from grid.node.appraisal import Basis
from grid.node.dialects.flea_rows import FleaParts, evaluation_told, name_of, statistics_told, task_told
from grid.node.tasks.registry import Asked
from grid.store.blobs import Draft
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.form import fields
from grid.wire import flea as wire
from grid.wire.names import Name
from grid.wire.problems import BadRequest

FILE = "task"
"""The field of a form that is the task's one file."""

SUMS: dict[str, dict[str, Any] | str] = {
    "": "fedavg",
    "WeightedCumulativeMovingAverage": "fedavg",
    "CumulativeMovingAverage": {"aggregation": {"name": "mean", "weight": "uniform"}},
}
"""What Flea calls its two aggregators; any other name is a strategy of ours."""


def generator_routes(parts: FleaParts) -> Routes:
    """What task generators ask."""
    registry, outcome = parts.registry, parts.outcome

    async def created(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.CREATE_TASK)
        row = await registry.register(request[CALLER], _asked(asked))
        return body.reply(wire.CREATE_TASK, task_told(row, parts.url(request)))

    async def registered(request: web.Request) -> web.StreamResponse:
        said: dict[str, Any] = {}
        draft = parts.jobs.blobs.create(wire.BUNDLE_LIMIT)
        try:
            asked = _converted(await _taken(request, draft, said))
            if not draft.size:
                raise BadRequest(f"a form for a task has a file named {FILE}")
            await registry.refuse_taken(asked.task_id)
            await draft.commit()
            row = await registry.register(request[CALLER], _asked(asked, draft.digest))
        except BaseException:
            draft.abort()
            raise
        return body.reply(wire.REGISTER_TASK, task_told(row, parts.url(request)), status=201)

    async def modified(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.MODIFY_TASK)
        ends = None if asked.deadline is None else wire.seconds(asked.deadline)
        row = await registry.change(request[CALLER], name_of(request), ends=ends, opened=bool(asked.active))
        return body.reply(wire.MODIFY_TASK, task_told(row, parts.url(request)))

    async def changed(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.CHANGE_TASK)
        ends = None if asked.deadline is None else wire.seconds(asked.deadline)
        row = await registry.change(request[CALLER], name_of(request), ends=ends, opened=asked.active)
        return body.reply(wire.CHANGE_TASK, task_told(row, parts.url(request)))

    async def aggregate(request: web.Request) -> web.StreamResponse:
        row = await outcome.aggregate(request[CALLER], name_of(request))
        return body.reply(wire.AGGREGATE, task_told(row, parts.url(request)), status=202)

    async def archived(request: web.Request) -> web.StreamResponse:
        row = await outcome.archive(request[CALLER], name_of(request))
        return body.reply(wire.ARCHIVE, task_told(row, parts.url(request)))

    async def evaluate(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.EVALUATE)
        on = Basis(asked.dataset, asked.inputs, asked.target)
        row = await outcome.evaluate(request[CALLER], name_of(request), on)
        return body.reply(wire.EVALUATE, evaluation_told(row), status=202)

    return {
        wire.CREATE_TASK: created,
        wire.REGISTER_TASK: registered,
        wire.MODIFY_TASK: modified,
        wire.CHANGE_TASK: changed,
        wire.AGGREGATE: aggregate,
        wire.ARCHIVE: archived,
        wire.EVALUATE: evaluate,
    }


def owner_routes(parts: FleaParts) -> Routes:
    """What is told to those whose task or model it is."""
    registry = parts.registry

    async def evaluation(request: web.Request) -> web.StreamResponse:
        row = await registry.own(request[CALLER], name_of(request))
        return body.reply(wire.EVALUATION, evaluation_told(row))

    async def of_task(request: web.Request) -> web.StreamResponse:
        counted = await registry.statistics(request[CALLER], name=name_of(request))
        return body.reply(wire.TASK_STATISTICS, statistics_told(counted))

    async def of_model(request: web.Request) -> web.StreamResponse:
        counted = await registry.statistics(request[CALLER], model=body.part(request, "model", Name))
        return body.reply(wire.MODEL_STATISTICS, statistics_told(counted))

    return {wire.EVALUATION: evaluation, wire.TASK_STATISTICS: of_task, wire.MODEL_STATISTICS: of_model}


async def _taken(request: web.Request, draft: Draft, said: dict[str, Any]) -> dict[str, Any]:
    """A form: its file to the draft, what else it says; `checkpointIds` may stand several times, or be one list."""
    names: list[str] = []
    async for field in fields(request, wire.REGISTER_TASK):
        if field.name == FILE:
            if draft.size:
                raise BadRequest("a task has one file")
            async for block in field.blocks():
                draft.write(block)
                del block
        elif field.name == "checkpointIds":
            names += [name.strip() for name in (await field.text()).split(",") if name.strip()]
        else:
            said[field.name] = await field.text()
    return {**said, "checkpointIds": names}


def _converted(said: dict[str, Any]) -> wire.TaskAsked:
    try:
        return msgspec.convert(said, wire.TaskAsked, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


def _asked(asked: wire.TaskAsked, bundle: str = "") -> Asked:
    """The task that is asked for: its checkpoints are one, a list, or a range."""
    one = (asked.checkpoint_id,) if asked.checkpoint_id else ()
    return Asked(
        name=asked.task_id,
        model=asked.model_id,
        variant=asked.hyperparameters_id,
        ends=wire.seconds(asked.deadline),
        checkpoints=(*one, *asked.checkpoint_ids),
        first=asked.initial_checkpoint_id,
        last=asked.final_checkpoint_id,
        opened=asked.active,
        bundle=bundle,
        link=asked.link,
        strategy=SUMS.get(asked.aggregation, asked.aggregation),
        most_examples=asked.max_samples,
    )
