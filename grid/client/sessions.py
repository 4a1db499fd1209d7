"""Signed in at many daemons: one session for each, opened when it is first needed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from grid.client.core import Request
from grid.crypto import errors
from grid.crypto.identity import Identity, public_from_id
from grid.crypto.session import SessionKey, authorization, offer
from grid.wire.problems import BadSignature, Replayed
from grid.wire.session import IDENTITY, SESSION, Offer

CAPACITY = 10_000
MARGIN = 5.0
"""Seconds: a session that ends so soon is renewed before it is used."""

Ask = Callable[..., Awaitable[Any]]


class Sessions:
    """The sessions of one identity, by address and by the key (32 bytes) that the daemon there must prove.

    `ask` makes an unsigned call (`Calls.call`).
    """

    def __init__(self, identity: Identity, ask: Ask, now: Callable[[], float], entropy: Callable[[int], bytes]) -> None:
        self._identity, self._ask, self._now, self._entropy = identity, ask, now, entropy
        self._open: dict[tuple[str, bytes | None], _Session] = {}

    async def authorize(self, address: str, peer: bytes | None, request: Request, digest: bytes) -> str:
        """The Authorization header for one request; signs in where needed.

        Raises:
            BadSignature: another key than `peer` answers there.
            Unreachable, or the daemon's own refusal.
        """
        session = self._open.get((address, peer))
        if session is None:
            if len(self._open) >= CAPACITY:
                del self._open[next(iter(self._open))]
            session = self._open[address, peer] = _Session()
        async with session.lock:  # the first opens it, the others wait and use it
            if session.key is None or session.key.expires - MARGIN <= self._now():
                session.key, session.counter = await self._agree(address, peer), 0
            session.counter += 1
            return authorization(session.key, session.counter, request.method, request.target, digest)

    def forget(self, address: str, peer: bytes | None, header: str) -> None:
        """The session of this header is over; one opened since then stays."""
        session = self._open.get((address, peer))
        if session is not None and session.key is not None and header.startswith(f"Session {session.key.id}."):
            session.key = None

    async def _agree(self, address: str, peer: bytes | None) -> SessionKey:
        audience = peer or await self._who(address)
        message, state = offer(self._identity, audience, self._now(), entropy=self._entropy)
        accepted = await self._ask(address, SESSION, Offer(message))
        try:
            return state.complete(accepted.accepted, self._now())
        except errors.Replayed as error:
            raise Replayed(str(error)) from None
        except errors.CryptoError as error:
            raise BadSignature(f"{address} does not prove the key it should have: {error}") from None

    async def _who(self, address: str) -> bytes:
        """The key that answers there, taken at its word: whoever must know better gives `peer`."""
        return public_from_id((await self._ask(address, IDENTITY)).public_key)


class _Session:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.key: SessionKey | None = None
        self.counter = 0
