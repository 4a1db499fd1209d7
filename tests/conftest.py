"""What several rooms' tests share: connections, a scientist, and a grid in one process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import ClientSession
from hypothesis import settings

from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.transport.serve import running
from tests.grid_of_nodes import ANode, Learner, Puppet, Scientist, a_node, a_puppet, pool
from tests.transport.daemon import Daemon

settings.register_profile("untimed", deadline=None)  # a busy machine is no failure
settings.load_profile("untimed")


@pytest.fixture
async def connections() -> AsyncIterator[ClientSession]:
    """A pool that may go to loopback."""
    async with pool() as http:
        yield http


@pytest.fixture
async def scientist(connections: ClientSession) -> Scientist:
    """Whom the nodes of `start_node` trust."""
    return Scientist(connections)


StartNode = Callable[..., Awaitable[ANode]]
StartPuppet = Callable[..., Awaitable[Puppet]]


@pytest.fixture
async def start_node(tmp_path: Path) -> AsyncIterator[StartNode]:
    """What starts nodes by name; they stop with the test."""
    async with AsyncExitStack() as stack:

        async def start(name: str, learner: Learner | None = None, **settings: object) -> ANode:
            node = await a_node(name, tmp_path / name, learner, **settings)  # type: ignore[arg-type]
            stack.push_async_callback(node.stop)
            return node

        yield start


@pytest.fixture
async def start_puppet(connections: ClientSession) -> AsyncIterator[StartPuppet]:
    """What starts puppets by name."""
    async with AsyncExitStack() as stack:

        async def start(name: str, *, examples: int = 10) -> Puppet:
            return await stack.enter_async_context(a_puppet(name, connections, examples=examples))

        yield start


@pytest.fixture
async def coordinator(start_node: StartNode) -> ANode:
    """A node without data, for runs of others."""
    return await start_node("coordinator", data=False)


# --- a small daemon, and callers of it -----------------------------------------------------------


@pytest.fixture
async def daemon() -> AsyncIterator[Daemon]:
    """A daemon on a free port."""
    small = Daemon()
    async with running(small.app, keep_alive=0.5) as address:
        small.address = address
        yield small


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    """Plain HTTP, for what no caller of ours would send."""
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
