"""FriendlyFL's files: sealed envelopes in, a ZIP of them out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing
from typing import IO

import msgspec
from aiohttp import web

from grid.gateway.deposits import Deposits, Left
from grid.gateway.dialects.friendlyfl_rows import run_told
from grid.gateway.record import Record
from grid.transport import body
from grid.transport.app import CALLER, Routes
from grid.transport.form import fields
from grid.wire import friendlyfl as wire
from grid.wire.problems import BadRequest

KINDS = frozenset({"artifacts", "mid_artifacts", "logs"})
BLOCK = 256 * 1024


class _Places(msgspec.Struct, frozen=True):
    """To which run files belong, and to which task and round of it."""

    run: int
    task_seq: int = 1
    round_seq: int = 1


def file_routes(record: Record) -> Routes:
    """Upload and download."""
    deposits = record.deposits

    async def upload(request: web.Request) -> web.StreamResponse:
        left: list[Left] = []
        try:
            places = await _taken(request, deposits, left)
            if not left:
                raise BadRequest(f"a form has files named {', '.join(sorted(KINDS))}")
            part = await deposits.keep(request[CALLER], places.run, left, places.task_seq, places.round_seq)
        except BaseException:
            for each in left:
                each.abort()
            raise
        return body.reply(wire.UPLOAD, await run_told(record, part), status=201)

    async def download(request: web.Request) -> web.StreamResponse:
        asked: wire.DownloadQuery = body.query(request, wire.DOWNLOAD)
        found = await deposits.for_caller(request[CALLER], asked.run, asked.type, every=asked.all_runs)
        chosen = [
            (number, left)
            for number, left in found
            if asked.task_seq in {None, left.task} and asked.round_seq in {None, left.round}
        ]
        with closing(await asyncio.to_thread(deposits.zipped, chosen)) as file:
            size = file.seek(0, 2)
            file.seek(0)
            named = {
                "Content-Type": "application/zip",
                "Content-Disposition": f'attachment; filename="{asked.type}.zip"',
            }
            return await body.send(request, _blocks(file), size, named)

    return {wire.UPLOAD: upload, wire.DOWNLOAD: download}


async def _taken(request: web.Request, deposits: Deposits, left: list[Left]) -> _Places:
    """Take a form: its files to `left`, on the way to disk; to which run they belong."""
    said: dict[str, str] = {}
    async for field in fields(request, wire.UPLOAD):
        if field.name in KINDS:
            left.append(await deposits.begin(field.name))
            async for block in field.blocks():
                left[-1].write(block)
        else:
            said[field.name] = await field.text()
    try:
        return msgspec.convert(said, _Places, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


async def _blocks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(file.read, BLOCK):
        yield block
