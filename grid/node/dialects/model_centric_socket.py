"""PyGrid's websocket: messages in, answers out, one after the other; what is long goes by HTTP."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from grid.node.dialects.model_centric_rows import PyGridParts, frame, hosting, taken
from grid.transport.app import CALLER
from grid.transport.auth import Caller
from grid.wire import model_centric as wire
from grid.wire.problems import BadRequest, GridError, NotAllowed, TooManyRequests
from grid.wire.rights import Right

SOCKETS = 1000
"""Websockets at a time."""
IDLE = 120.0
"""Seconds without a message after which a websocket is closed."""
BEAT = 15.0
SLOW = 15.0
"""Seconds that a device may take to read an answer."""

Authenticate = Callable[[wire.AuthenticateAsked], Awaitable[wire.Told]]
CycleRequest = Callable[[wire.CycleAsked], Awaitable[wire.Told]]
Report = Callable[[AsyncIterator[bytes]], Awaitable[wire.Told]]
Answer = Callable[[Any, Caller], Awaitable[wire.Told]]


def socket_handler(
    parts: PyGridParts, authenticate: Authenticate, cycle_request: CycleRequest, report: Report
) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    """The handler of the websocket."""
    open_now = asyncio.Semaphore(SOCKETS)

    async def host(said: Any, caller: Caller) -> wire.Told:
        if not caller.has(Right.UPLOAD_DATA):
            raise NotAllowed("only accounts whose role lets them upload data host a process")
        row = await parts.series.host(caller, hosting(taken(said, wire.HostAsked)))
        return {"status": "success", "model_id": row.id}

    async def authenticated(said: Any, _: Caller) -> wire.Told:
        return await authenticate(taken(said, wire.AuthenticateAsked))

    async def asked(said: Any, _: Caller) -> wire.Told:
        return await cycle_request(taken(said, wire.CycleAsked))

    async def reported(said: Any, _: Caller) -> wire.Told:
        return await report(_one(msgspec.json.encode(taken(said, wire.ReportAsked))))

    async def alive(_: Any, __: Caller) -> wire.Told:
        return {"alive": "True"}

    answers: dict[str, Answer] = {
        "model-centric/host-training": host,
        "model-centric/authenticate": authenticated,
        "model-centric/cycle-request": asked,
        "model-centric/report": reported,
        "socket-ping": alive,
    }

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() != "websocket":
            raise BadRequest("a websocket is expected here; `/openapi.json` names what else there is")
        if open_now.locked():
            raise TooManyRequests("there are as many websockets as there may be: HTTP takes the same", retry_after=60.0)
        async with open_now:
            socket = web.WebSocketResponse(timeout=SLOW, heartbeat=BEAT, max_msg_size=wire.SOCKET_LIMIT, compress=False)
            await socket.prepare(request)
            await _serve(socket, partial(_answer, answers, request[CALLER]))
            return socket

    return handle


async def _serve(socket: web.WebSocketResponse, answer: Callable[[str], Awaitable[wire.Told]]) -> None:
    try:
        while True:
            async with asyncio.timeout(IDLE):
                message = await socket.receive()
            if message.type != WSMsgType.TEXT:
                break
            told = await answer(message.data)
            async with asyncio.timeout(SLOW):
                await socket.send_str(msgspec.json.encode(told).decode())
    except (TimeoutError, ConnectionResetError):
        pass
    await socket.close()


async def _answer(answers: dict[str, Answer], caller: Caller, text: str) -> wire.Told:
    """What a message is answered: a refusal says why, in `error`, and goes by the name that its problem has."""
    try:
        said = msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError) as error:
        return frame("error", {"error": f"not a message: {error}"}, None)
    kind, number = str(said.get("type", "")), said.get("request_id")
    try:
        if kind not in answers:
            raise BadRequest(f"the types of messages are {', '.join(answers)}")
        told = await answers[kind](said.get("data", {}), caller)
    except GridError as refused:
        told = {"status": "error", "error": refused.detail, "reason": refused.slug}
        if refused.retry_after is not None:
            told["timeout"] = refused.retry_after
    return frame(kind, told, number)


async def _one(block: bytes) -> AsyncIterator[bytes]:
    yield block
