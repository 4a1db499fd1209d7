"""A small daemon with an endpoint of each kind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Annotated, Any

from aiohttp import web
from msgspec import Meta

from grid.crypto.identity import Identity
from grid.transport import body
from grid.transport.app import CALLER, Handler, create_app
from grid.transport.auth import Authenticator, token_check
from grid.transport.hello import health_handler, identity_handler, session_handler
from grid.transport.metrics import Metrics
from grid.transport.parts import Parts, send_parts
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.message import Message
from grid.wire.problems import Full
from grid.wire.session import HEALTH, IDENTITY, SESSION

NOW = 1_800_000_000.0

CUT = web.AppKey("cut", asyncio.Event)
"""Set when a reader was cut off."""


RANGES = web.AppKey("ranges", list[str])
"""What was asked for of what comes in parts."""


class Words(Message, frozen=True):
    """A few words."""

    said_words: Annotated[str, Meta(max_length=100_000)]


class Heard(Message, frozen=True):
    """What was heard, and from whom."""

    words: str
    kind: str
    caller: str | None = None
    owner: bool = False
    size: int = 0


class Pick(Message, frozen=True):
    """Query parameters of several types."""

    count: int = 1
    word: str = ""
    loud: bool = False


ECHO: Endpoint[Words, Heard] = Endpoint("POST", "/echo", Words, Heard, about="Say it again", limit=4096)
PRIVATE: Endpoint[Words, Heard] = Endpoint("POST", "/v1/private/{name}", Words, Heard, who="signed", limit=4096)
OWNED: Endpoint[None, Heard] = Endpoint("GET", "/v1/owned", gives=Heard, who="owner")
PICK: Endpoint[None, Heard] = Endpoint("GET", "/pick", gives=Heard, query=Pick)
PUT: Endpoint[Stream, Heard] = Endpoint("PUT", "/v1/blobs/{name}", Stream, Heard, who="signed", limit=3_000_000)
GET: Endpoint[None, Stream] = Endpoint("GET", "/v1/blobs/{name}", gives=Stream)
PARTS: Endpoint[None, Stream] = Endpoint("GET", "/v1/parts/{size}", gives=Stream)
FULL: Endpoint[None, Heard] = Endpoint("GET", "/v1/full", gives=Heard)
BROKEN: Endpoint[None, Heard] = Endpoint("GET", "/v1/broken", gives=Heard)


async def _echo(request: web.Request) -> web.StreamResponse:
    caller = request[CALLER]
    words = await body.read(request, ECHO)
    return body.reply(ECHO, Heard(words.said_words, caller.kind, caller.id, caller.owner), request=request)


async def _owned(request: web.Request) -> web.StreamResponse:
    caller = request[CALLER]
    return body.reply(OWNED, Heard("", caller.kind, caller.id, caller.owner))


async def _pick(request: web.Request) -> web.StreamResponse:
    pick: Pick = body.query(request, PICK)
    return body.reply(PICK, Heard(pick.word.upper() if pick.loud else pick.word, "anonymous", size=pick.count))


async def _put(request: web.Request) -> web.StreamResponse:
    digest, size = sha256(), 0
    async for block in body.blocks(request, PUT, grace=0.3, idle=0.3):
        digest.update(block)
        size += len(block)
    return body.reply(PUT, Heard(digest.hexdigest(), request[CALLER].kind, request[CALLER].id, size=size))


async def _get(request: web.Request) -> web.StreamResponse:
    """`name` says what comes: `sized-N`, `open-N` (no length told), `fails-N` (breaks off half-way)."""
    how, _, number = request.match_info["name"].partition("-")
    size = int(number)

    async def source() -> AsyncIterator[memoryview]:
        block = bytearray(300_000)  # one block, used again and again
        for start in range(0, size, len(block)):
            part = memoryview(block)[: min(len(block), size - start)]
            part[:] = bytes([start // len(block) % 251]) * len(part)
            yield part
            if how == "fails":
                raise OSError("the disk is gone")

    try:
        return await body.send(request, source(), None if how == "open" else size, grace=0.3, idle=0.3)
    except ConnectionError:
        request.app[CUT].set()
        raise


def content(size: int) -> bytes:
    """What the daemon gives in parts: no two places of it alike."""
    return b"".join(number.to_bytes(4, "big") for number in range(size // 4 + 1))[:size]


async def _parts(request: web.Request) -> web.StreamResponse:
    """`size` bytes, under one tag; a size that ends with 7 gets another tag each time."""
    whole = content(int(request.match_info["size"]))

    async def read(begin: int, end: int) -> AsyncIterator[bytes]:
        for start in range(begin, end, 50_000):
            yield whole[start : min(end, start + 50_000)]

    ranges = request.app[RANGES]
    ranges.append(request.headers.get("Range", "all"))
    tag = f"tag-{len(ranges)}" if request.match_info["size"].endswith("7") else "tag"
    return await send_parts(request, Parts(tag, len(whole), read))


async def _full(_: web.Request) -> web.StreamResponse:
    raise Full("no room", retry_after=2.5)


async def _broken(_: web.Request) -> web.StreamResponse:
    raise KeyError("a secret that must not get out")


class Daemon:
    """What a test may look at: the address, the keys, the parts."""

    def __init__(self) -> None:
        self.clock = NOW
        self.identity, self.alice, self.owner = (Identity.from_seed(bytes([n]) * 32) for n in (1, 2, 3))
        self.metrics = Metrics()
        self.auth = Authenticator(
            self.identity,
            lambda: self.clock,
            is_owner=token_check(sha256(b"open sesame").digest()),
            owner_keys=lambda: {self.owner.public},
            lifetime=1000.0,
        )
        self.address = ""
        self.app = create_app(self.routes(), auth=self.auth, metrics=self.metrics, about="A small daemon")
        self.app[CUT] = asyncio.Event()
        self.app[RANGES] = []

    def routes(self) -> dict[Endpoint[Any, Any], Handler]:
        return {
            SESSION: session_handler(self.auth),
            IDENTITY: identity_handler(self.identity, "node", "1.0", "small"),
            HEALTH: health_handler(self.identity, "node", "small", now=lambda: self.clock),
            ECHO: _echo,
            PRIVATE: _echo,
            OWNED: _owned,
            PICK: _pick,
            PUT: _put,
            GET: _get,
            PARTS: _parts,
            FULL: _full,
            BROKEN: _broken,
        }
