"""Bodies in and out: bounded, on time, and streamed where they are large.

What limits a slow sender or reader is one rule: it may keep us waiting for `GRACE` seconds in all, and
for longer only in step with the bytes that moved, `MINIMUM_RATE` of them per second; and never for
`IDLE` seconds at a stretch. The time that our own side takes is not counted against the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from time import monotonic
from typing import Any, TypeVar, cast

import msgspec
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from multidict import CIMultiDict

from grid.transport.metrics import Metrics
from grid.wire.endpoint import Endpoint
from grid.wire.message import JSON, MSGPACK, OCTETS, encode
from grid.wire.problems import BadRequest, TooLarge, TooSlow, UnsupportedEncoding, UnsupportedMediaType

Takes = TypeVar("Takes")
Gives = TypeVar("Gives")
T = TypeVar("T")

MINIMUM_RATE = 16 * 1024.0
GRACE = 10.0
IDLE = 15.0
BLOCK = 256 * 1024
"""Bytes: the most that is handed to the socket at once."""

BODY = web.RequestKey("body", bytes)
METRICS = web.AppKey("metrics", Metrics)

_HEADERS = {media: CIMultiDict({"Content-Type": media, "Server": "grid"}) for media in (JSON, MSGPACK, OCTETS)}
_MEDIA = {JSON: JSON, MSGPACK: MSGPACK}


class Pace:
    """How long the other side may still keep us waiting."""

    def __init__(self, minimum_rate: float = MINIMUM_RATE, grace: float = GRACE, idle: float = IDLE) -> None:
        self._rate, self._left, self._idle = minimum_rate, grace, idle
        self._since = 0.0

    def moved(self, size: int) -> None:
        """`size` bytes came or went."""
        self._left += size / self._rate

    def __enter__(self) -> float:
        """Begin to wait: for at most this many seconds."""
        self._since = monotonic()
        return max(0.0, min(self._left, self._idle))

    def __exit__(self, *_: object) -> None:
        self._left -= monotonic() - self._since


# --- in --------------------------------------------------------------------------------------


async def read(request: web.Request, endpoint: Endpoint[Takes, Gives]) -> Takes:
    """The message of a request, from JSON or MessagePack by its Content-Type.

    Raises:
        BadRequest: not the message that the endpoint takes.
        UnsupportedMediaType: another Content-Type, or none, from a browser.
    """
    return cast("Takes", endpoint.decode_request(request[BODY], _media(request)))


def query(request: web.Request, endpoint: Endpoint[Takes, Gives]) -> Any:
    """The query parameters as the message that `endpoint.query` names. Raises BadRequest."""
    assert endpoint.query is not None
    values = dict(request.query)
    if len(values) != len(request.query):
        raise BadRequest("a query parameter is given twice")
    return _converted(values, endpoint.query)


def part(request: web.Request, name: str, kind: type[T]) -> T:
    """The path parameter `name` as a constrained type, e.g. `RunId`. Raises BadRequest."""
    return _converted(request.match_info[name], kind)


def _converted(value: object, kind: type[T]) -> T:
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None


def _media(request: web.Request) -> str:
    headers = request.headers
    given = headers.get("Content-Type", "")
    media = _MEDIA.get(given) or _MEDIA.get(given.partition(";")[0].strip().lower())
    if media is not None:
        return media
    # `curl -d` sends JSON as a form, and may. A browser must not: a page elsewhere can send forms to a daemon on
    # loopback without asking it. Browsers name the page's origin on every such request.
    if "Origin" in headers or "Sec-Fetch-Site" in headers:
        raise UnsupportedMediaType(f"send {JSON} or {MSGPACK}")
    return JSON


async def whole(request: web.Request, endpoint: Endpoint[Takes, Gives]) -> bytes:
    """The body of a message, of up to `endpoint.limit` bytes. Raises as `blocks` does."""
    content = request.content
    if content.is_eof() and "Content-Encoding" not in request.headers:  # all of it came with the head
        body = content.read_nowait(-1)
        if len(body) > endpoint.limit:
            raise TooLarge(f"{endpoint.limit} bytes are taken")
        request.app[METRICS].received += len(body)
        return body
    return b"".join([block async for block in blocks(request, endpoint)])


async def blocks(
    request: web.Request,
    endpoint: Endpoint[Takes, Gives],
    *,
    minimum_rate: float = MINIMUM_RATE,
    grace: float = GRACE,
    idle: float = IDLE,
) -> AsyncIterator[bytes]:
    """The body as it comes, never whole.

    Raises:
        TooLarge: more than `endpoint.limit` bytes.
        TooSlow: the sender kept us waiting.
        UnsupportedEncoding: a compressed body, whose size nobody can tell before it is there.
        ConnectionResetError: the sender is gone.
    """
    if "Content-Encoding" in request.headers:
        raise UnsupportedEncoding
    if (request.content_length or 0) > endpoint.limit:
        raise TooLarge(f"{endpoint.limit} bytes are taken")
    content, pace, total = request.content, Pace(minimum_rate, grace, idle), 0
    await _welcome(request)
    try:
        while not content.at_eof():
            block = content.read_nowait(-1)
            if not block:
                with pace as patience:
                    async with asyncio.timeout(patience):
                        block = await content.readany()
            total += len(block)
            if total > endpoint.limit:
                raise TooLarge(f"{endpoint.limit} bytes are taken")
            pace.moved(len(block))
            if block:
                yield block
                block = b""  # not held while the next one is awaited: of many senders that is most of the memory
    except TimeoutError:
        raise TooSlow(f"{total} bytes came, then too little for too long") from None
    except web.RequestPayloadError as error:
        raise BadRequest(f"the body is broken: {error}") from None
    finally:
        request.app[METRICS].received += total


async def _welcome(request: web.Request) -> None:
    """Tell a sender who asked first (`Expect: 100-continue`) to go on: only now, when nothing spoke against it."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0


async def no_welcome_yet(_: web.Request) -> None:
    """In place of aiohttp's own answer to `Expect`, which comes before a handler could refuse."""


# --- out -------------------------------------------------------------------------------------


def reply(
    endpoint: Endpoint[Takes, Gives], message: Gives, *, request: web.Request | None = None, status: int = 200
) -> web.Response:
    """The answer of an endpoint: JSON, or MessagePack where `request` asks for it."""
    accepts = request.headers.get("Accept", "") if request is not None else ""
    media = MSGPACK if MSGPACK in accepts else JSON
    return web.Response(body=encode(message, media), status=status, headers=_HEADERS[media])


async def send(
    request: web.Request,
    source: AsyncIterator[bytes | memoryview],
    length: int | None,
    headers: Mapping[str, str] | None = None,
    *,
    status: int = 200,
    minimum_rate: float = MINIMUM_RATE,
    grace: float = GRACE,
    idle: float = IDLE,
) -> web.StreamResponse:
    """Stream `source` as the answer; `length` bytes, or None where it is not known.

    A block may be reused as soon as the source is asked for the next one. A reader slower than
    `minimum_rate` is cut off, and a source that fails ends the connection, so that a short answer never
    looks whole.
    """
    response = web.StreamResponse(status=status, headers=_HEADERS[OCTETS])
    response.headers.update(headers or {})
    response.content_length = length
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the caller is gone")
    # At 0 the writer's `drain` waits until the socket has taken all: only then may the source reuse its block.
    low, high = transport.get_write_buffer_limits()
    transport.set_write_buffer_limits(high=0)
    try:
        writer = await response.prepare(request)
        assert writer is not None
        await _write_all(writer, transport, source, Pace(minimum_rate, grace, idle), request.app[METRICS])
    except BaseException:
        transport.abort()
        raise
    transport.set_write_buffer_limits(high, low)
    await response.write_eof()
    return response


async def _write_all(
    writer: AbstractStreamWriter,
    transport: asyncio.WriteTransport,
    source: AsyncIterator[bytes | memoryview],
    pace: Pace,
    metrics: Metrics,
) -> None:
    async for block in source:
        view = memoryview(block).cast("B")
        for start in range(0, len(view), BLOCK):
            piece = view[start : start + BLOCK]
            with pace as patience:
                try:
                    async with asyncio.timeout(patience):
                        await _write(writer, transport, piece)
                except TimeoutError:
                    raise ConnectionResetError("the reader is too slow") from None
            pace.moved(len(piece))
            metrics.sent += len(piece)


async def _write(writer: AbstractStreamWriter, transport: asyncio.WriteTransport, piece: memoryview) -> None:
    await writer.write(piece)
    while transport.get_write_buffer_size():
        await writer.drain()
        await asyncio.sleep(0)
