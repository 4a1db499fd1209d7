"""The endpoints of tasks that wait for devices: each handler parses, calls, responds."""

from __future__ import annotations

import asyncio

from aiohttp import web
from msgspec import UNSET

from grid.node.appraisal import Basis, Score
from grid.node.tasks.jobs import Jobs, check_tensors
from grid.node.tasks.outcome import Outcome, comparison_of
from grid.node.tasks.registry import Asked, Registry
from grid.store.tasks import TaskRow
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.feed import listen
from grid.transport.parts import file_parts, send_parts
from grid.wire import tasks as wire
from grid.wire.directory import Done
from grid.wire.names import Name
from grid.wire.problems import TaskNotFound


def task_routes(registry: Registry, jobs: Jobs, outcome: Outcome) -> Routes:
    """Every endpoint of tasks with its handler."""
    return {
        **_owner_routes(registry, jobs),
        **_outcome_routes(registry, outcome),
        **_finding_routes(registry, jobs),
        **_job_routes(jobs),
        **_statistics_routes(registry),
    }


def _owner_routes(registry: Registry, jobs: Jobs) -> Routes:
    async def add(request: web.Request) -> web.StreamResponse:
        new = await body.read(request, wire.ADD_TASK)
        asked = Asked(
            name=_name(request),
            model=new.model,
            variant=new.variant,
            ends=new.ends,
            checkpoints=new.checkpoints,
            first=new.first,
            last=new.last,
            opened=new.open,
            link=new.link,
            strategy=new.strategy,
            most_examples=new.most_examples,
        )
        row = await registry.register(request[CALLER], asked)
        return body.reply(wire.ADD_TASK, task_told(row), request=request)

    async def put_file(request: web.Request) -> web.StreamResponse:
        await registry.own(request[CALLER], _name(request))
        draft = jobs.blobs.create(wire.FILE_LIMIT)
        try:
            async for block in body.blocks(request, wire.PUT_TASK_FILE):
                draft.write(block)
                del block  # see `transport.body.blocks`
            await draft.commit()
            row = await registry.attach(request[CALLER], _name(request), draft.digest)
        except BaseException:
            draft.abort()
            raise
        return body.reply(wire.PUT_TASK_FILE, task_told(row), request=request)

    async def change(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.CHANGE_TASK)
        ends = None if asked.ends is UNSET else asked.ends
        opened = None if asked.open is UNSET else asked.open
        row = await registry.change(request[CALLER], _name(request), ends=ends, opened=opened)
        return body.reply(wire.CHANGE_TASK, task_told(row), request=request)

    async def events(request: web.Request) -> web.StreamResponse:
        name, caller = _name(request), request[CALLER]
        return await listen(
            request, wire.TASK_EVENTS, lambda after: registry.events(caller, name, after), last="archived"
        )

    return {wire.ADD_TASK: add, wire.PUT_TASK_FILE: put_file, wire.CHANGE_TASK: change, wire.TASK_EVENTS: events}


def _outcome_routes(registry: Registry, outcome: Outcome) -> Routes:
    async def aggregate(request: web.Request) -> web.StreamResponse:
        row = await outcome.aggregate(request[CALLER], _name(request))
        return body.reply(wire.AGGREGATE_TASK, task_told(row), request=request)

    async def evaluate(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.EVALUATE_TASK)
        on = Basis(asked.dataset, asked.inputs, asked.target)
        row = await outcome.evaluate(request[CALLER], _name(request), on)
        return body.reply(wire.EVALUATE_TASK, evaluation_told(row), request=request)

    async def evaluation(request: web.Request) -> web.StreamResponse:
        row = await registry.own(request[CALLER], _name(request))
        return body.reply(wire.TASK_EVALUATION, evaluation_told(row), request=request)

    async def archive(request: web.Request) -> web.StreamResponse:
        row = await outcome.archive(request[CALLER], _name(request))
        return body.reply(wire.ARCHIVE_TASK, task_told(row), request=request)

    return {
        wire.AGGREGATE_TASK: aggregate,
        wire.EVALUATE_TASK: evaluate,
        wire.TASK_EVALUATION: evaluation,
        wire.ARCHIVE_TASK: archive,
    }


def _finding_routes(registry: Registry, jobs: Jobs) -> Routes:
    async def listed(request: web.Request) -> web.StreamResponse:
        asked: wire.TaskQuery = body.query(request, wire.TASKS)
        rows = await registry.find(
            request[CALLER],
            asked.model,
            asked.variant,
            asked.checkpoint,
            first=asked.first,
            most=asked.most + 1,
            closed=asked.closed,
            wait=asked.wait,
        )
        told = wire.Tasks(tuple(map(task_told, rows[: asked.most])), more=len(rows) > asked.most)
        return body.reply(wire.TASKS, told, request=request)

    async def shown(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.TASK, task_told(await registry.get(request[CALLER], _name(request))), request=request)

    async def file(request: web.Request) -> web.StreamResponse:
        row = await registry.get(request[CALLER], _name(request))
        if not row.bundle:
            raise TaskNotFound(f"the file of task {row.task.id} is not here" + f", but at {row.link}" * bool(row.link))
        return await send_parts(request, file_parts(jobs.blobs.path(row.bundle), row.bundle))

    return {wire.TASKS: listed, wire.TASK: shown, wire.TASK_FILE: file}


def _job_routes(jobs: Jobs) -> Routes:
    async def commit(request: web.Request) -> web.StreamResponse:
        asked = await body.read(request, wire.COMMIT)
        done = await jobs.commit(request[CALLER], _name(request), asked.checkpoint)
        told = wire.Committed(done.job.id, done.ticket, done.job.checkpoint, done.task.task.ends)
        return body.reply(wire.COMMIT, told, request=request)

    async def give_up(request: web.Request) -> web.StreamResponse:
        said, job = await body.read(request, wire.GIVE_UP), body.part(request, "job", str)
        await jobs.failed(request[CALLER], _name(request), job, said.reason)
        return body.reply(wire.GIVE_UP, Done("heard"), request=request)

    async def hand_in(request: web.Request) -> web.StreamResponse:
        ticket, learned = body.part(request, "ticket", wire.Ticket), body.query(request, wire.HAND_IN)
        async with jobs.handing_in(ticket, request[CALLER]) as handing:
            tensors = handing.draft()
            try:
                async for block in body.blocks(request, wire.HAND_IN):
                    tensors.write(block)
                    del block  # see `transport.body.blocks`
                await asyncio.to_thread(check_tensors, tensors, handing.layout)
                await handing.register(tensors, learned.examples)
            finally:
                tensors.abort()
        return body.reply(wire.HAND_IN, Done("the update is registered"), request=request)

    return {wire.COMMIT: commit, wire.GIVE_UP: give_up, wire.HAND_IN: hand_in}


def _statistics_routes(registry: Registry) -> Routes:
    async def of_task(request: web.Request) -> web.StreamResponse:
        counted = await registry.statistics(request[CALLER], name=_name(request))
        return body.reply(wire.TASK_STATISTICS, statistics_told(counted), request=request)

    async def of_model(request: web.Request) -> web.StreamResponse:
        counted = await registry.statistics(request[CALLER], model=body.part(request, "model", Name))
        return body.reply(wire.MODEL_STATISTICS, statistics_told(counted), request=request)

    return {wire.TASK_STATISTICS: of_task, wire.MODEL_STATISTICS: of_model}


def task_told(row: TaskRow) -> wire.TaskInfo:
    """A task, as it is told."""
    return wire.TaskInfo(
        task=row.task.id,
        owner=row.owner,
        model=row.model,
        variant=row.variant,
        checkpoints=row.checkpoints,
        ends=row.task.ends,
        state=row.task.state,
        created=row.created,
        reason=row.task.reason,
        file=row.bundle,
        link=row.link,
        strategy=row.strategy,
        most_examples=row.most_examples,
        result=row.result,
    )


def evaluation_told(row: TaskRow) -> wire.Evaluation:
    """What came of a task's evaluation."""
    found = comparison_of(row)
    if found is None:
        return wire.Evaluation(row.task.state, row.task.reason)
    return wire.Evaluation(
        state=row.task.state,
        reason=row.task.reason,
        on=wire.Measure(*found.on),
        result=_score(row.result, found.aggregated) if found.aggregated else None,
        others=tuple(_score(name, score) for name, score in found.others.items()),
        improved=found.improved,
    )


def statistics_told(counted: list[tuple[str, int, int]]) -> wire.Statistics:
    """Commitments and registrations."""
    clients = tuple(wire.ClientCount(*each) for each in counted)
    committed, registered = sum(each.commitments for each in clients), sum(each.registrations for each in clients)
    return wire.Statistics(committed, registered, clients)


def _score(name: str, score: Score) -> wire.Score:
    return wire.Score(name, score.examples, score.loss, dict(score.metrics))


def _name(request: web.Request) -> str:
    return body.part(request, "task", Name)
