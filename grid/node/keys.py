"""The node's own prekeys: a new one each day, and the old ones' secrets erased after two days more."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable

from grid.crypto import prekeys as crypto
from grid.crypto.identity import Identity
from grid.store import keys as store
from grid.store.database import Database
from grid.store.schema import Transaction

DAY = 86_400.0
ROTATE = DAY
OFFERED = 2 * DAY
"""Seconds for which others may seal to a prekey."""
KEPT = 3 * DAY
"""Seconds until its secret is erased: what was sealed at the last moment can still be opened for a day."""
LOOK = 3600.0


class Prekeys:
    """What others seal to and this node opens. A prekey is on disk before anybody hears of it."""

    def __init__(
        self,
        database: Database,
        identity: Identity,
        now: Callable[[], float],
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._database, self._identity, self._now, self._entropy = database, identity, now, entropy
        self._opened: dict[bytes, crypto.Prekey] = {}
        self._take(database.read_now(store.all_prekeys))

    def published(self) -> bytes:
        """The present prekey, signed and dated; a new one if the last is a day old."""
        if not self._fresh():
            self._take(self._database.write_now(self._rotate))  # a few milliseconds, once a day
        return self._stored[0].published

    def find(self, prekey_id: bytes) -> crypto.Prekey | None:
        """The secret half of a prekey, if it is still held. `prekey_id`: 8 bytes."""
        for stored in self._stored:
            if stored.id == prekey_id and stored.valid_until > self._now():
                if prekey_id not in self._opened:
                    self._opened[prekey_id] = crypto.Prekey.from_private_bytes(stored.secret)
                return self._opened[prekey_id]
        return None

    async def refresh(self) -> None:
        """Make a new prekey if the present one is a day old, and erase those whose time is over."""
        if not self._fresh() or any(stored.valid_until < self._now() for stored in self._stored):
            await self._database.write(self._rotate)
            # Read anew: while that write was under way, `published` may have made a prekey of its own.
            self._take(self._database.read_now(store.all_prekeys))

    async def keep(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Refresh until cancelled, so that old secrets go even if nobody asks for new ones."""
        while True:
            await self.refresh()
            await sleep(LOOK)

    def _fresh(self) -> bool:
        now = self._now()
        # A clock that was set back must not leave us with a prekey that nobody accepts yet.
        return bool(self._stored) and now - ROTATE < self._stored[0].valid_from <= now

    def _rotate(self, connection: Transaction) -> list[store.StoredPrekey]:
        store.erase_prekeys(connection, self._now())
        if not self._fresh():
            store.add_prekey(connection, self._make())
        return store.all_prekeys(connection)

    def _make(self) -> store.StoredPrekey:
        now, prekey = self._now(), crypto.Prekey.generate(self._entropy)
        published = crypto.publish(self._identity, prekey, now, now + OFFERED)
        return store.StoredPrekey(prekey.id, prekey.private_bytes(), published, now, now + KEPT)

    def _take(self, stored: list[store.StoredPrekey]) -> None:
        # By when they were made, as far as that is not in the future.
        now = self._now()
        self._stored = sorted(stored, key=lambda prekey: (prekey.valid_from <= now, prekey.valid_from), reverse=True)
        held = {prekey.id for prekey in stored}
        self._opened = {prekey_id: prekey for prekey_id, prekey in self._opened.items() if prekey_id in held}
