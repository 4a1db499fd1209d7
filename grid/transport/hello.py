"""What every daemon answers: whose key it holds, that it lives, and the start of a session."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from grid.crypto.identity import Identity, fingerprint
from grid.transport import body
from grid.transport.app import GATE, Handler
from grid.transport.auth import Authenticator
from grid.wire import session as wire

HEALTH_DOMAIN = "health"
"""The signing domain of the answer to a health check."""


def health_statement(role: str, node_id: str | None, nonce: str) -> bytes:
    """What a daemon signs (domain "health") to prove that it is alive: role, node id and the asker's nonce."""
    return f"{role}|{node_id or ''}|{nonce}".encode()


def session_handler(auth: Authenticator) -> Handler:
    """Answers `SESSION`: signing in."""

    async def open_session(request: web.Request) -> web.StreamResponse:
        offer = await body.read(request, wire.SESSION)
        return body.reply(wire.SESSION, wire.Accepted(auth.open_session(offer.offer)), request=request)

    return open_session


def identity_handler(identity: Identity, role: wire.Role, version: str, node_id: str | None = None) -> Handler:
    """Answers `IDENTITY`: whose key this daemon holds."""
    answer = wire.Identity(identity.id, fingerprint(identity.public), role, version, node_id)

    async def who(request: web.Request) -> web.StreamResponse:
        return body.reply(wire.IDENTITY, answer, request=request)

    return who


def health_handler(
    identity: Identity,
    role: wire.Role,
    node_id: str | None = None,
    *,
    now: Callable[[], float],
    busy: Callable[[], bool] = lambda: False,
) -> Handler:
    """Answers `HEALTH`, signed where the asker gives a nonce. `busy`: whether work would rather not come now."""

    async def health(request: web.Request) -> web.StreamResponse:
        nonce: str = body.query(request, wire.HEALTH).nonce
        status = "draining" if request.app[GATE].draining else "busy" if busy() else "online"
        signature = identity.sign(HEALTH_DOMAIN, health_statement(role, node_id, nonce)) if nonce else b""
        answer = wire.Health(status, node_id, now(), signature)  # type: ignore[arg-type]
        return body.reply(wire.HEALTH, answer, request=request)

    return health
