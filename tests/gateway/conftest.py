"""A gateway on a free port, nodes as the RFC has them, and callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from grid.accounts.house import open_house
from grid.accounts.passwords import Effort
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.gateway.app import Policy, open_gateway
from grid.gateway.kept import KeptLog, KeptMembers
from grid.gateway.log import Log
from grid.gateway.record import open_record
from grid.protocol.roles import NETWORK_ROLES
from grid.relay.mailboxes import Mailboxes
from grid.relay.quotas import ROOM
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.transport.auth import Authenticator
from grid.transport.serve import running
from tests.gateway.fakes import Clock

GATEWAY = Identity.from_seed(b"g" * 32)
OWNERS_TOKEN = "the owner's word"
QUICK = Effort(memory=8, passes=1)
OPEN = Policy(allow_unsigned=True, allow_private=True)


@asynccontextmanager
async def gateway_at(
    data: Path, policy: Policy = OPEN, clock: Clock | None = None, room: int = ROOM, port: int = 0
) -> AsyncIterator[str]:
    """A gateway with its state in `data`; its address."""
    now = clock or Clock()
    async with Database(data / "gateway.db", "gateway") as database:
        house = open_house(database, GATEWAY, NETWORK_ROLES, now, QUICK)
        record = open_record(database, Blobs(data / "deposits"), now, room, house)
        auth = Authenticator(
            GATEWAY,
            now,
            is_owner=lambda token: token == OWNERS_TOKEN,
            accounts=house.logins.check,
            tokens=house.logins.bearer,
            standing=house.book.standing,
        )
        mailboxes = Mailboxes(database, EventLog(database), Blobs(data / "letters"), now, room)
        log = Log(KeptLog(database), GATEWAY, now)
        opened = open_gateway(
            GATEWAY,
            KeptMembers(database, log),
            policy,
            auth=auth,
            now=now,
            version="0",
            log=log,
            mailboxes=mailboxes,
            record=record,
        )
        async with opened as app, running(app, port=port) as address:
            yield address
            mailboxes.close()


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[str]:
    """The address of a gateway that takes unsigned joins and private addresses."""
    async with gateway_at(tmp_path) as address:
        yield address


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain caller, such as curl."""
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def calls_of(http: aiohttp.ClientSession) -> AsyncIterator[Callable[[Identity], Calls]]:
    """What makes callers with an identity, on the hand-moved clock of the gateway."""
    async with open_http(Egress(allow_private=True)) as pool:
        yield lambda identity: Calls(pool, identity=identity, now=Clock())


Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RfcNode:
    """A node as the RFC has it: `/search` and `/health-check`, and no more. Counts what it is asked."""

    def __init__(self, tags: set[str], respond: Respond | None = None) -> None:
        self.tags, self.respond, self.asked = tags, respond, 0

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/search", self._search)
        app.router.add_get("/health-check", self._health)
        return app

    async def _search(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.respond:
            return await self.respond(request)
        query = (await request.json())["query"]
        return web.json_response({"content": set(query) <= self.tags})

    async def _health(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="OK")


@pytest.fixture
async def rfc_node() -> AsyncIterator[Callable[..., Awaitable[str]]]:
    """What starts nodes of the RFC; gives their address."""
    async with AsyncExitStack() as stack:

        async def start(*tags: str, respond: Respond | None = None) -> str:
            runner = web.AppRunner(RfcNode(set(tags), respond).app(), shutdown_timeout=0.01)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            return f"http://127.0.0.1:{site.port}"

        yield start


async def until(true: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that a loop of the gateway is about to do."""
    async with asyncio.timeout(5):
        while not await true():  # each look is a call over HTTP
            pass
