"""Flea for its clients: tasks found, committed to, and handed in for."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath

import msgspec
from aiohttp import web

from grid.node.archives import Archive
from grid.node.dialects.flea_rows import FleaParts, name_of, resource, task_told
from grid.node.tasks.jobs import Handing, take_tensors
from grid.store.blobs import Draft
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.parts import file_parts, send_parts
from grid.wire import flea as wire
from grid.wire.flea_repository import BASE as REPOSITORY
from grid.wire.problems import BadRequest, TaskNotFound, UpdateRefused

RESULT = "result.json"
RESULT_SIZE = 64 * 1024
"""Bytes of a `result.json`."""
TENSORS = ".safetensors"
FOLDER = ".tioresult"
BESIDE = 1 << 20
"""Bytes that a result may have beside its tensors."""


def client_routes(parts: FleaParts) -> Routes:
    """What clients ask."""
    return {**_finding(parts), **_working(parts)}


def _finding(parts: FleaParts) -> Routes:
    registry = parts.registry

    async def listed(request: web.Request) -> web.StreamResponse:
        asked: wire.TaskQuery = body.query(request, wire.TASKS)
        if (asked.checkpoint_id and not asked.hyperparameters_id) or (asked.hyperparameters_id and not asked.model_id):
            raise BadRequest("a checkpoint is one of hyperparameters, and these are a model's: name these, too")
        rows = await registry.find(
            request[CALLER],
            asked.model_id,
            asked.hyperparameters_id,
            asked.checkpoint_id,
            first=asked.start_task_id,
            most=asked.max_items or wire.PAGE,
            closed=asked.include_inactive,
        )
        told = wire.TaskList(
            start_task_id=asked.start_task_id,
            max_items=asked.max_items,
            task_ids=tuple(row.task.id for row in rows),
            tasks={row.task.id: resource(row, asked.checkpoint_id or row.checkpoints[0]) for row in rows},
            repository_base_url=parts.url(request) + REPOSITORY,
        )
        return body.reply(wire.TASKS, told)

    async def shown(request: web.Request) -> web.StreamResponse:
        row = await registry.get(request[CALLER], name_of(request))
        return body.reply(wire.TASK, task_told(row, parts.url(request)))

    async def bundle(request: web.Request) -> web.StreamResponse:
        row = await registry.get(request[CALLER], name_of(request))
        if not row.bundle:
            raise TaskNotFound(f"the file of task {row.task.id} is not here" + f", but at {row.link}" * bool(row.link))
        return await send_parts(request, file_parts(parts.jobs.blobs.path(row.bundle), row.bundle))

    return {wire.TASKS: listed, wire.TASK: shown, wire.BUNDLE: bundle}


def _working(parts: FleaParts) -> Routes:
    jobs = parts.jobs

    async def commit(request: web.Request) -> web.StreamResponse:
        asked: wire.CommitQuery = body.query(request, wire.COMMIT)
        done = await jobs.commit(request[CALLER], name_of(request), asked.checkpoint_id)
        url = parts.url(request) + wire.UPLOAD.target(ticket=done.ticket)
        return body.reply(wire.COMMIT, wire.Started("APPROVED", done.job.id, url))

    async def upload(request: web.Request) -> web.StreamResponse:
        ticket = body.part(request, "ticket", str)
        async with jobs.handing_in(ticket, request[CALLER]) as handing:
            archive = jobs.blobs.create(handing.limit + BESIDE)
            tensors = handing.draft()
            try:
                async for block in body.blocks(request, wire.UPLOAD):
                    archive.write(block)
                    del block  # see `transport.body.blocks`
                archive.cut()
                result = await asyncio.to_thread(unpack, archive.path, handing, tensors)
                await handing.register(tensors, result.num_samples)
            finally:
                archive.abort()
                tensors.abort()
        return body.reply(wire.UPLOAD, wire.Told("the result is registered"))

    async def failed(request: web.Request) -> web.StreamResponse:
        said, job = await body.read(request, wire.JOB_ERROR), body.part(request, "job", wire.JobName)
        await jobs.failed(request[CALLER], name_of(request), job, said.error_message)
        return body.reply(wire.JOB_ERROR, wire.Told("Thank you for the error report."))

    return {wire.COMMIT: commit, wire.START_TASK: commit, wire.UPLOAD: upload, wire.JOB_ERROR: failed}


def unpack(path: Path, handing: Handing, tensors: Draft) -> wire.Result:
    """The result in an archive, its one file of tensors in a draft; nothing else of the archive is unpacked.

    Raises:
        UpdateRefused: it is no such archive, or the result of another task or job.
    """
    with Archive(path, handing.limit + BESIDE) as archive:
        named = archive.the_one(RESULT, *(name for name in archive.names if PurePosixPath(name).name == RESULT))
        result = _result(archive.read(named, RESULT_SIZE))
        if result.task_id != handing.task.task.id:
            raise UpdateRefused(f"this is a result of task {result.task_id[:80]!r}, not of {handing.task.task.id}")
        for folder in PurePosixPath(named).parts[:-1]:
            if folder.endswith(FOLDER) and folder != handing.job.id + FOLDER:
                raise UpdateRefused(f"this is the result of another job: {folder[:80]!r}")
        model = archive.the_one(f"files *{TENSORS}", *(name for name in archive.names if name.endswith(TENSORS)))
        take_tensors(archive.blocks(model), handing.layout, tensors)
    return result


def _result(data: bytes) -> wire.Result:
    try:
        return msgspec.json.decode(data, type=wire.Result)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpdateRefused(f"its {RESULT} cannot be read: {error}") from None
