"""A node and a network, both real, each with what its people do."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from grid.associations.app import association_routes
from grid.associations.service import Associations
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.store.database import Database
from grid.transport.app import create_app
from grid.transport.auth import Authenticator
from grid.transport.hello import identity_handler, session_handler
from grid.transport.metrics import Metrics
from grid.transport.serve import running
from grid.wire.session import IDENTITY, SESSION, Role


class Daemon:
    """One that has associations and nothing else; its clock is moved by hand."""

    def __init__(self, identity: Identity) -> None:
        self.identity, self.clock, self.address = identity, 0.0, ""
        self.associations: Associations
        self.calls: Calls


Start = Callable[..., Awaitable[Daemon]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Starts daemons of a role."""
    async with AsyncExitStack() as stack:

        async def begin(role: Role, seed: bytes, address: str = "") -> Daemon:
            daemon = Daemon(Identity.from_seed(seed * 32))

            def now() -> float:
                return time.time() + daemon.clock

            egress = Egress(allow_private=True)
            http = await stack.enter_async_context(open_http(egress))
            kind = "node" if role == "node" else "gateway"
            database = await stack.enter_async_context(Database(tmp_path / f"{seed.decode()}.db", kind))
            daemon.calls = Calls(http, identity=daemon.identity)
            daemon.associations = Associations(
                database, daemon.identity, role, seed.decode(), lambda: daemon.address, daemon.calls, egress, now
            )
            auth = Authenticator(daemon.identity, now, owner_keys=lambda: frozenset({daemon.identity.public}))
            routes = {
                SESSION: session_handler(auth),
                IDENTITY: identity_handler(daemon.identity, role, "0", seed.decode() if role == "node" else None),
                **association_routes(daemon.associations),
            }
            app = create_app(routes, auth=auth, metrics=Metrics(), about="A daemon")
            daemon.address = address or await stack.enter_async_context(running(app))
            return daemon

        yield begin
