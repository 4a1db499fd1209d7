"""Calls to daemons over HTTP: signed, bounded, on time, never redirected."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from hashlib import sha256
from typing import Any, TypeVar

import aiohttp
import msgspec
from yarl import URL

from grid.client.continuing import continued
from grid.client.core import Request, answer, refusal, request
from grid.client.egress import Blocked
from grid.client.relaying import Relayed, Response, stretched, unconnected
from grid.client.sessions import Sessions
from grid.crypto.identity import Identity, public_from_id
from grid.crypto.session import EMPTY_BODY, SEALED_BODY
from grid.wire.endpoint import Endpoint
from grid.wire.message import OCTETS
from grid.wire.problems import (
    AddressRefused,
    BadSignature,
    NotAuthenticated,
    Replayed,
    SessionUnknown,
    Unreachable,
)
from grid.wire.relay import key_of, mailbox_at

Takes = TypeVar("Takes")
Gives = TypeVar("Gives")
T = TypeVar("T")
Block = bytes | memoryview

ANSWER = 8 * 1024 * 1024
"""Bytes: the most that an answer of words may have, unless the caller says otherwise."""

REFUSAL = 64 * 1024
STREAM = 8 * 1024**3
IDLE = 30.0
"""Seconds for which a stream may stand still."""

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=5.0)  # each call has a deadline of its own


class Calls:
    """Calls endpoints at any address.

    Endpoints that ask who calls get a session of `identity`, or `token` where only the owner may call or
    there is no identity. With `peer` (the public key that must answer, 32 bytes) or `sign=True` a session is
    used in any case. Where the address is that of a mailbox, the call goes through `relay` (see there), signed in
    any case; also where nobody can be connected to, if `peer` reads letters. Every method raises what the other side
    raised, and besides

        Unreachable: no answer in time, or none of a daemon of the grid.
        AddressRefused: the policy of the connection pool (see `egress`) forbids to go there.
        BadSignature: another key than `peer` answers there.
        NotAuthenticated: the endpoint asks who calls, and there is neither identity nor token.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        *,
        identity: Identity | None = None,
        token: str | None = None,
        now: Callable[[], float] = time.time,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._http, self._token = http, token
        self.relay: Relayed | None = None
        self._sessions = Sessions(identity, self.call, now, entropy) if identity is not None else None

    async def call(
        self,
        address: str,
        endpoint: Endpoint[Takes, Gives],
        message: Takes | None = None,
        *,
        peer: bytes | None = None,
        query: msgspec.Struct | None = None,
        deadline: float | None = None,
        sign: bool = False,
        limit: int = ANSWER,
        **path: Any,
    ) -> Gives:
        """Say `message`, get the answer, within `deadline` seconds (the endpoint's own) and `limit` bytes."""
        sent = request(endpoint, message, query, path)

        async def say(at: str) -> Gives:
            patience, signed = _patience(at, endpoint, deadline), sign or peer is not None
            with _reaching(at):
                async with (
                    asyncio.timeout(patience),
                    self._answered(at, endpoint, sent, peer, signed, patience) as response,
                ):
                    return await _gives(endpoint, response, limit)

        return await self._somehow(address, peer, say)

    @asynccontextmanager
    async def download(
        self,
        address: str,
        endpoint: Endpoint[Takes, Gives],
        message: Takes | None = None,
        *,
        peer: bytes | None = None,
        deadline: float | None = None,
        idle: float = IDLE,
        limit: int = STREAM,
        **path: Any,
    ) -> AsyncIterator[tuple[int | None, AsyncIterator[bytes]]]:
        """Get a stream: its length where it is known, and its blocks.

        `deadline` seconds for the head of the answer; then the stream may stand still for `idle` seconds. Where
        the connection breaks and the other side gives parts, the rest of the stream comes over another.
        """
        sent = request(endpoint, message, None, path)
        async with AsyncExitStack() as stack:

            async def ask(more: dict[str, str]) -> Response:
                again = sent._replace(headers=sent.headers | more)
                await stack.aclose()  # the connection that broke

                async def say(at: str) -> Response:
                    patience = _patience(at, endpoint, deadline)
                    with _reaching(at):
                        async with asyncio.timeout(patience):
                            answered = self._answered(at, endpoint, again, peer, peer is not None, patience)
                            return await stack.enter_async_context(answered)

                return await self._somehow(address, peer, say)

            first = await ask({})
            blocks = continued(first, ask, lambda response, at: _bounded(response, limit - at, idle))
            yield first.content_length, _reached(address, blocks)

    async def upload(
        self,
        address: str,
        endpoint: Endpoint[Takes, Gives],
        source: AsyncIterator[Block],
        *,
        length: int | None = None,
        query: msgspec.Struct | None = None,
        peer: bytes | None = None,
        deadline: float | None = None,
        idle: float = IDLE,
        **path: Any,
    ) -> Gives:
        """Hand in a stream of `length` bytes. Not one is read from `source` before the other side wants it.

        It may stand still for `idle` seconds; the answer may take `deadline` seconds from the last block.
        """
        sent = request(endpoint, None, query, path)
        sent.headers.update({"Content-Type": OCTETS} | ({} if length is None else {"Content-Length": str(length)}))

        async def say(at: str) -> Gives:
            patience = _patience(at, endpoint, deadline)
            with _reaching(at):
                async with asyncio.timeout(patience) as clock:
                    body = _Body(source, clock, idle, patience)
                    try:
                        answered = self._answered(at, endpoint, sent, peer, peer is not None, patience, body)
                        async with answered as response:
                            return await _gives(endpoint, response, ANSWER)
                    except (aiohttp.ClientError, ConnectionError):
                        if body.failure is not None:
                            raise body.failure from None
                        raise
                    except Unreachable as error:
                        error.connected |= body.begun  # what was read is gone: it cannot be said elsewhere
                        raise

        return await self._somehow(address, peer, say)

    async def _somehow(self, address: str, peer: bytes | None, say: Callable[[str], Awaitable[T]]) -> T:
        """Say something at an address. Where nobody can be connected to, nothing was said, and it is said elsewhere."""
        relay = self.relay
        if relay is None or peer is None:
            return await say(address)
        if (box := relay.instead(peer, address)) is not None:
            try:
                return await say(box)
            except Unreachable as error:
                relay.forget(peer, address)
                if error.connected:  # perhaps it was heard
                    raise
        try:
            return await say(address)
        except Unreachable as error:
            if error.connected or (box := await relay.box_of(peer, address)) is None:
                raise
        return await say(box)

    @asynccontextmanager
    async def _answered(
        self,
        address: str,
        endpoint: Endpoint[Any, Any],
        sent: Request,
        peer: bytes | None,
        sign: bool,
        patience: float,
        body: _Body | None = None,
    ) -> AsyncIterator[Response]:
        """The response to a request, if it is no refusal; a session that the other side forgot is opened again."""
        if box := mailbox_at(address):
            async with self._by_letter(*box, sent, peer, body, patience) as relayed:
                yield relayed
            return
        digest = SEALED_BODY if endpoint.streams_in else sha256(sent.body).digest() if sent.body else EMPTY_BODY
        async with AsyncExitStack() as stack:
            header = await self._authorization(address, endpoint, sent, digest, peer, sign)
            try:
                response = await stack.enter_async_context(self._once(address, sent, header, body))
            except (SessionUnknown, Replayed) as error:
                # A request on a connection that broke is repeated by the pool, counter and all: if it is
                # one that changes nothing, so may we.
                again = isinstance(error, SessionUnknown) or sent.method == "GET"
                if not again or self._sessions is None or header is None or (body is not None and body.begun):
                    raise
                self._sessions.forget(address, peer, header)
                header = await self._authorization(address, endpoint, sent, digest, peer, sign)
                response = await stack.enter_async_context(self._once(address, sent, header, body))
            yield response

    @asynccontextmanager
    async def _by_letter(
        self, gateway: str, mailbox: str, sent: Request, peer: bytes | None, body: _Body | None, patience: float
    ) -> AsyncIterator[Response]:
        """The response of whoever reads a mailbox: nobody else can answer, and letters are signed."""
        if self.relay is None:
            raise Unreachable(f"{mailbox} is reached through {gateway} alone, and here is nobody who writes letters")
        if peer is not None and peer != public_from_id(key_of(mailbox)):
            raise BadSignature(f"the mailbox {mailbox} is that of another key")
        async with self.relay.ask(gateway, mailbox, sent, body, patience) as response:
            if not 200 <= response.status < 300:
                media = response.headers.get("Content-Type", "")
                raise refusal(response.status, media, await _read(response, REFUSAL))
            yield response

    async def _authorization(
        self,
        address: str,
        endpoint: Endpoint[Any, Any],
        sent: Request,
        digest: bytes,
        peer: bytes | None,
        sign: bool,
    ) -> str | None:
        if endpoint.who == "anyone" and not sign:
            return None
        if self._token is not None and (endpoint.who == "owner" or self._sessions is None):
            return f"Bearer {self._token}"
        if self._sessions is None:
            raise NotAuthenticated(f"{endpoint.method} {endpoint.path} needs an identity")
        return await self._sessions.authorize(address, peer, sent, digest)

    @asynccontextmanager
    async def _once(
        self, address: str, sent: Request, authorization: str | None, body: _Body | None
    ) -> AsyncIterator[Response]:
        headers = sent.headers if authorization is None else {**sent.headers, "Authorization": authorization}
        async with self._http.request(
            sent.method,
            URL(address.rstrip("/") + sent.target, encoded=True),  # sent as it was signed
            headers=headers,
            data=sent.body or None if body is None else body,
            expect100=body is not None,
            allow_redirects=False,
            timeout=_NO_TIMEOUT,
        ) as response:
            if not 200 <= response.status < 300:
                media = response.headers.get("Content-Type", "")
                error = refusal(response.status, media, await _read(response, REFUSAL))
                if body is not None:
                    response.close()  # the rest of the body will not be sent: the connection is of no more use
                raise error
            yield response


class _Body:
    """A stream on its way out: whether it has begun, and what went wrong with it."""

    def __init__(self, source: AsyncIterator[Block], clock: asyncio.Timeout, idle: float, patience: float) -> None:
        self._source, self._clock, self._idle, self._patience = source, clock, idle, patience
        self.begun = False
        self.failure: Exception | None = None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        try:
            async for block in self._source:
                self._wait(self._idle)
                # The transport may hold on to what it gets, and a view belongs to somebody who will reuse it.
                yield bytes(block)
                self._wait(self._idle)
        except Exception as error:
            self.failure = error
            raise
        self._wait(self._patience)

    def _wait(self, seconds: float) -> None:
        if not self._clock.expired():
            self._clock.reschedule(asyncio.get_running_loop().time() + seconds)


def _patience(address: str, endpoint: Endpoint[Any, Any], deadline: float | None) -> float:
    """Seconds that a call to this address may take."""
    seconds = endpoint.deadline if deadline is None else deadline
    return stretched(endpoint, seconds) if mailbox_at(address) else seconds


async def _gives(endpoint: Endpoint[Any, Gives], response: Response, limit: int) -> Gives:
    media = response.headers.get("Content-Type", "")
    return answer(endpoint, response.status, media, await _read(response, limit))


async def _read(response: Response, limit: int) -> bytes:
    return b"".join([block async for block in _bounded(response, limit)])


async def _bounded(response: Response, limit: int, idle: float | None = None) -> AsyncIterator[bytes]:
    if "Content-Encoding" in response.headers:
        raise Unreachable("the answer is compressed, which was not asked for")
    total = 0
    while True:
        async with asyncio.timeout(idle):
            block = await response.content.readany()
        if not block:
            return
        total += len(block)
        if total > limit:
            raise Unreachable(f"the answer is larger than {limit} bytes")
        yield block


async def _reached(address: str, blocks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    with _reaching(address):
        async for block in blocks:
            yield block


@contextmanager
def _reaching(address: str) -> Iterator[None]:
    """Errors of the connection as problems."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError:
        raise unconnected(f"{address}: nobody answers there") from None
    except TimeoutError:
        raise Unreachable(f"{address} did not answer in time") from None
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, Blocked):
            raise AddressRefused(f"{address}: {error.os_error}") from None
        raise unconnected(f"{address}: {error.os_error}") from None
    except (aiohttp.ClientError, OSError) as error:
        raise Unreachable(f"{address}: {str(error) or type(error).__name__}") from None
