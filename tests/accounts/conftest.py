"""The people of a node, on a clock moved by hand, with passwords that are quick to try."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from grid.accounts.house import House, open_house
from grid.accounts.passwords import Effort
from grid.crypto.identity import Identity
from grid.protocol.roles import NODE_ROLES
from grid.store.database import Database
from tests.gateway.fakes import Clock

QUICK = Effort(memory=8, passes=1)
DAEMON = Identity.from_seed(b"d" * 32)
PASSWORD = "correct horse battery"


@pytest.fixture
def clock() -> Clock:
    """Moved by hand."""
    return Clock()


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """That of a node."""
    async with Database(tmp_path / "node.db", "node") as database:
        yield database


@pytest.fixture
async def house(database: Database, clock: Clock) -> House:
    """Nobody is in it yet."""
    return open_house(database, DAEMON, NODE_ROLES, clock, QUICK)
