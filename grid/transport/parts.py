"""A stable stream as an answer: whoever lost the connection asks for the rest of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from grid.transport.body import BLOCK, send
from grid.wire.ranges import Span, asked, content_range


@dataclass(frozen=True)
class Parts:
    """`size` bytes that are always the same under one `tag`; `read(begin, end)` gives some of them, in blocks."""

    tag: str
    size: int
    read: Callable[[int, int], AsyncIterator[bytes | memoryview]]


def file_parts(path: Path, tag: str) -> Parts:
    """A file that never changes."""
    return Parts(tag, path.stat().st_size, lambda begin, end: _read(path, begin, end))


async def send_parts(request: web.Request, parts: Parts) -> web.StreamResponse:
    """Stream what the request asks for: all, or the `Range` of it.

    `If-Range` with another tag asks for all: what the caller has is of another stream.

    Raises:
        RangeUnsatisfiable: nothing of the range is there.
    """
    headers = {"ETag": f'"{parts.tag}"', "Accept-Ranges": "bytes"}
    span = _span(request, headers["ETag"], parts.size)
    if span is None:
        return await send(request, parts.read(0, parts.size), parts.size, headers)
    headers["Content-Range"] = content_range(span, parts.size)
    return await send(request, parts.read(*span), span.end - span.begin, headers, status=206)


def _span(request: web.Request, tag: str, size: int) -> Span | None:
    if request.headers.get("If-Range", tag) != tag:
        return None
    return asked(request.headers.get("Range", ""), size)


async def _read(path: Path, begin: int, end: int) -> AsyncIterator[bytes]:
    with path.open("rb", buffering=0) as file:
        file.seek(begin)
        while begin < end and (block := file.read(min(BLOCK, end - begin))):
            begin += len(block)
            yield block
