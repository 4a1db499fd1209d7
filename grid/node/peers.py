"""The pins of a node: the peers it has met, by which key. One table, as `client.pins` is one file."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from grid.client.pins import FRESH
from grid.protocol.pins import Pin, met
from grid.store import keys as store
from grid.store.database import Database
from grid.store.schema import Transaction
from grid.wire.node import KnownPeer
from grid.wire.problems import NotFound


class Peers:
    """Who is known to this node by which key."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    async def meet(self, shown: Iterable[tuple[str, str]]) -> None:
        """Peers, as (name, key in wire form), are all known by these keys, or they are from now on; or none is.

        Raises:
            KeyChanged: one is known by another key.
        """
        pairs, now = tuple(shown), self._now()

        def judge(connection: Transaction) -> None:
            for name, public_key in pairs:
                before = store.pinned(connection, name)
                after = met(before, name, public_key, now)
                if before is None or now - before.last_seen > FRESH:
                    store.pin(connection, after)

        await self._database.write(judge)

    async def pin(self, name: str, public_key: str) -> None:
        """Know a name by this key from now on, whatever it was known by: its owner was asked."""
        now = self._now()
        known = Pin(name, public_key, now, now, "by hand")
        await self._database.write(lambda connection: store.pin(connection, known))

    async def forget(self, name: str) -> None:
        """Know a name no longer. Raises NotFound if it was not known."""
        if not await self._database.write(lambda connection: store.unpin(connection, name)):
            raise NotFound(f"{name} is not known here")

    async def known(self) -> tuple[KnownPeer, ...]:
        """Everybody who is known, in order of name."""
        rows = await self._database.read(store.pins)
        return tuple(KnownPeer(p.name, p.public_key, p.first_seen, p.last_seen, p.how) for p in rows)
