"""A small daemon on a free port, and callers of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import aiohttp
import pytest

from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.transport.serve import running
from tests.transport.daemon import Daemon


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    small = Daemon()
    async with running(small.app, keep_alive=0.5) as address:
        small.address = address
        yield small


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with open_http(Egress(allow_private=True)) as session:
        yield session


@pytest.fixture
async def calls(daemon: Daemon) -> AsyncIterator[Callable[..., Calls]]:
    """Makes callers: `calls(identity)`, `calls(token=...)`, `calls()` for a stranger."""
    async with AsyncExitStack() as stack:

        def make(identity: Identity | None = None, token: str | None = None) -> Calls:
            http = open_http(Egress(allow_private=True))
            stack.push_async_callback(http.close)
            return Calls(http, identity=identity, token=token, now=lambda: daemon.clock)

        yield make
