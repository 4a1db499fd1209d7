"""A download that goes on where it broke off, for as long as it gets anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from grid.client.relaying import Response
from grid.wire.problems import Draining, Unreachable
from grid.wire.ranges import Span, given, onwards

Ask = Callable[[dict[str, str]], Awaitable[Response]]
"""Ask again, with these headers besides. Raises what the other side does, Unreachable without an answer."""

Read = Callable[[Response, int], AsyncIterator[bytes]]
"""The blocks of a response whose first byte is at this place of the stream."""

PAUSES = (0.1, 0.5, 1.0, 2.0)
"""Seconds before each try that follows one without yield; after the last of them the download has failed."""

YIELD = 64 * 1024
"""Bytes that make a connection worth its while: without this, one that breaks at once could go on for ever."""

BROKEN = (TimeoutError, aiohttp.ClientError, OSError)


async def continued(first: Response, ask: Ask, read: Read) -> AsyncIterator[bytes]:
    """The blocks of `first`; where its connection breaks, the rest comes over others.

    Raises what broke it where the other side gives no parts, or too many connections in a row brought nothing.
    """
    tag, size = first.headers.get("ETag", ""), first.content_length
    parts = first.headers.get("Accept-Ranges") == "bytes" and tag.startswith('"') and size is not None
    response, got, idle = first, 0, 0
    while True:
        before = got
        try:
            async for block in read(response, got):
                got += len(block)
                yield block
            return
        except BROKEN as error:
            if not parts:
                raise
            broken: Exception = error
        idle = 0 if got - before >= YIELD else idle + 1
        while True:
            if idle:
                await _pause(idle, broken)
            try:
                response = await ask({"Range": onwards(got), "If-Range": tag})
                break
            except (Unreachable, Draining) as error:
                broken, idle = error, idle + 1
        if response.status != 206 or not _goes_on(response, tag, got, size or 0):
            raise broken  # another stream: sealed anew, or by somebody who does not know our range


async def _pause(idle: int, broken: Exception) -> None:
    if idle > len(PAUSES):
        raise broken
    await asyncio.sleep(PAUSES[idle - 1])


def _goes_on(response: Response, tag: str, got: int, size: int) -> bool:
    part = given(response.headers.get("Content-Range", ""))
    return response.headers.get("ETag") == tag and part == (Span(got, size), size)
