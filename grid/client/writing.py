"""The relay of a program that only asks: its prekeys and its mailbox are gone with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

from grid.client.calls import Calls
from grid.client.relay import Relay
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish

DAY = 86_400.0


class MemoryPrekeys:
    """Prekeys of a program that keeps nothing: a new one each day, and the one before it."""

    def __init__(self, identity: Identity, now: Callable[[], float]) -> None:
        self._identity, self._now = identity, now
        self._made: list[tuple[float, Prekey, bytes]] = []

    def published(self) -> bytes:
        """The present prekey, signed and dated."""
        now = self._now()
        if not self._made or now - self._made[0][0] > DAY:
            prekey = Prekey.generate()
            self._made = [(now, prekey, publish(self._identity, prekey, now, now + 2 * DAY)), *self._made[:1]]
        return self._made[0][2]

    def find(self, prekey_id: bytes) -> Prekey | None:
        """The secret half of a prekey, if it is still held."""
        return next((prekey for _, prekey, _ in self._made if prekey.id == prekey_id), None)


@asynccontextmanager
async def open_relay(calls: Calls, identity: Identity, now: Callable[[], float]) -> AsyncIterator[Relay]:
    """Let `calls` reach mailboxes for as long as the block lasts. Nothing runs before the first of them is called."""
    tasks: set[asyncio.Task[None]] = set()

    def spawn(work: Coroutine[Any, Any, None]) -> None:
        tasks.add(task := asyncio.create_task(work))
        task.add_done_callback(tasks.discard)

    # A label of its own: another program of the same person must not hear these answers.
    calls.relay = relay = Relay(calls, identity, MemoryPrekeys(identity, now), now, spawn, label=token_hex(8))
    try:
        yield relay
    finally:
        calls.relay = None
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
