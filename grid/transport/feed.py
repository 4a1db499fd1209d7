"""A log that is listened to: by long-poll, as server-sent events, or through a websocket.

All three read the same entries by the same cursor, so a listener may change from one to another. A stream ends
after a while, when the daemon stops, and when its reader is too slow: whoever wants more comes back with the
cursor of the last entry it heard, and misses nothing. Nothing is kept for a reader but the entries it is sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import WSCloseCode, web

from grid.transport.body import query, reply
from grid.wire.endpoint import Endpoint
from grid.wire.message import encode
from grid.wire.problems import BadRequest
from grid.wire.runs import After, Event, Events

Read = Callable[[After], Awaitable[Events]]
"""The entries after a cursor; waits for the first of them, and comes back early and empty only where the log closes."""

SSE = "text/event-stream"
LARGEST = 10**18
FAREWELL = 2.0
"""Seconds that a listener has to say goodbye."""


@dataclass(frozen=True)
class Terms:
    """Seconds: a sign of life each `beat`; a stream ends after `life`; a reader may keep us waiting for `patience`."""

    beat: float = 15.0
    life: float = 600.0
    patience: float = 15.0


TERMS = Terms()


async def listen(
    request: web.Request, endpoint: Endpoint[None, Events], read: Read, *, last: str = "", terms: Terms = TERMS
) -> web.StreamResponse:
    """Answer in the way that the caller asks for. An entry of the kind `last` ends a stream.

    Raises what `read` raises, before a stream has begun; later that ends the stream.
    """
    after: After = query(request, endpoint)
    if request.headers.get("Upgrade", "").lower() == "websocket":
        return await _websocket(request, _follow(read, await read(After(after.after)), last, terms), terms)
    if SSE in request.headers.get("Accept", ""):
        first = await read(After(_resumed(request, after.after)))
        return await _server_sent(request, _follow(read, first, last, terms), terms)
    return reply(endpoint, await read(after), request=request)


async def _follow(read: Read, found: Events, last: str, terms: Terms) -> AsyncIterator[tuple[Event, ...]]:
    """The entries as they come, from those that were `found`; none where a sign of life is due."""
    loop = asyncio.get_running_loop()
    end = loop.time() + terms.life
    if found.events:
        yield found.events
    while not (found.events and found.events[-1].kind == last):
        asked = loop.time()
        wait = min(terms.beat, end - asked)
        if wait <= 0:
            return
        found = await read(After(found.after, wait))
        if not found.events and loop.time() - asked < wait / 2:
            return  # the log closes
        yield found.events


def _resumed(request: web.Request, after: int) -> int:
    """The cursor of the last entry that a reader heard, which a browser repeats by itself."""
    heard = request.headers.get("Last-Event-ID", "")
    if not heard:
        return after
    if not (heard.isascii() and heard.isdigit() and int(heard) <= LARGEST):
        raise BadRequest("Last-Event-ID is the cursor of an entry")
    return int(heard)


# --- server-sent events -------------------------------------------------------------------------


def told(event: Event) -> bytes:
    """One entry as WHATWG's HTML, section 9.2.6, has it. JSON of one line holds no line breaks of its own."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.cursor, event.kind.encode(), encode(event))


async def _server_sent(
    request: web.Request, entries: AsyncIterator[tuple[Event, ...]], terms: Terms
) -> web.StreamResponse:
    headers = {"Content-Type": SSE, "Cache-Control": "no-store", "X-Accel-Buffering": "no", "Server": "grid"}
    response = web.StreamResponse(headers=headers)
    async with _patient(request, terms) as wait:
        async with wait():
            await response.prepare(request)
            await response.write(b"retry: 1000\n\n")
        async for events in entries:
            async with wait():
                for event in events:
                    await response.write(told(event))
                if not events:
                    await response.write(b":\n\n")
        async with wait():
            await response.write_eof()
    return response


# --- websocket ----------------------------------------------------------------------------------


async def _websocket(
    request: web.Request, entries: AsyncIterator[tuple[Event, ...]], terms: Terms
) -> web.StreamResponse:
    """One entry a text message. What the listener says is not asked for: it ends the stream."""
    socket = web.WebSocketResponse(timeout=FAREWELL, heartbeat=terms.beat, max_msg_size=1024, compress=False)
    await socket.prepare(request)
    async with _patient(request, terms) as wait:
        hearing = asyncio.ensure_future(socket.receive())
        telling = asyncio.ensure_future(_tell(socket, entries, wait))
        try:
            await asyncio.wait((hearing, telling), return_when=asyncio.FIRST_COMPLETED)
            if telling.done():
                telling.result()
                await socket.close(code=WSCloseCode.GOING_AWAY)
            else:
                await socket.close(code=WSCloseCode.POLICY_VIOLATION, message=b"nothing is taken here")
        finally:
            hearing.cancel()
            telling.cancel()
            await asyncio.gather(hearing, telling, return_exceptions=True)
    return socket


async def _tell(socket: web.WebSocketResponse, entries: AsyncIterator[tuple[Event, ...]], wait: Wait) -> None:
    async for events in entries:
        async with wait():
            for event in events:
                await socket.send_str(encode(event).decode())


# --- slow readers -------------------------------------------------------------------------------

Wait = Callable[[], asyncio.Timeout]


@asynccontextmanager
async def _patient(request: web.Request, terms: Terms) -> AsyncIterator[Wait]:
    """What bounds the wait for a reader; whatever goes wrong, the stream ends at once and does not look whole."""
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the caller is gone")
    try:
        yield lambda: asyncio.timeout(terms.patience)
    except BaseException as error:
        transport.abort()
        if isinstance(error, TimeoutError):
            raise ConnectionResetError("the reader is too slow") from None
        raise
