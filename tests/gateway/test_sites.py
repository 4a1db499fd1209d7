from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from grid.gateway.sites import SILENCE, Sites
from grid.store.database import Database
from grid.store.events import EventLog
from grid.transport.auth import OWNER, Caller
from grid.wire.problems import NotAllowed, NotFound
from tests.gateway.fakes import Clock

ANN = Caller(None, None, owner=False, kind="account", account="ann")
EVE = Caller(None, None, owner=False, kind="account", account="eve")


@pytest.fixture
async def db() -> AsyncIterator[Database]:
    async with Database(None, "gateway") as db:
        yield db


@pytest.mark.parametrize("silence", [SILENCE + 1, 86_400.0, 86_400.0 + 30, 30 * 86_400.0])
async def test_whoever_fell_silent_is_written_down_once_and_told(db: Database, silence: float) -> None:
    clock = Clock()
    sites = Sites(db, clock)
    for uid in ("a", "b"):
        await sites.register(ANN, uid, f"site {uid}", "")

    clock.passes(SILENCE)
    assert await sites.check() == []
    await sites.heartbeat(ANN, "b", True)
    clock.passes(silence - SILENCE)
    silent = await sites.check()

    assert silent == (["a"] if silence < 2 * SILENCE else ["a", "b"])
    assert await sites.check() == []
    told = [(e.kind, e.data) for e in await EventLog(db).since("sites", 0)]
    assert told[-len(silent) :] == [("site-silent", b'{"uid":"%s"}' % uid.encode()) for uid in silent]


async def test_a_site_is_its_accounts_and_the_gateways_owner_may_remove_it(db: Database) -> None:
    sites = Sites(db, Clock())
    site = await sites.register(ANN, "", "St. Ann", "")
    assert len(site.uid) == 36

    with pytest.raises(NotAllowed):
        await sites.heartbeat(EVE, site.uid, False)
    with pytest.raises(NotAllowed):
        await sites.register(OWNER, "", "nobody's", "")
    await sites.remove(OWNER, site.id)
    with pytest.raises(NotFound):
        await sites.of_uid(site.uid)
