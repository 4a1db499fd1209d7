"""Signing in: a signed key agreement, after which a MAC authenticates each request."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from grid.wire.endpoint import Endpoint
from grid.wire.message import Message
from grid.wire.names import NodeId, PublicKey, Seconds
from grid.wire.problems import BadSignature, Replayed

Opaque = Annotated[bytes, Meta(max_length=4096, description="Bytes of the key agreement")]
Role = Literal["gateway", "node"]


class Offer(Message, frozen=True):
    """The caller's half of a key agreement, signed by its identity for this daemon alone."""

    offer: Opaque


class Accepted(Message, frozen=True):
    """The daemon's half, signed over the whole exchange."""

    accepted: Opaque


class Identity(Message, frozen=True):
    """Who answers here."""

    public_key: PublicKey
    fingerprint: str
    role: Role
    version: str
    node_id: NodeId | None = None


class Nonce(Message, frozen=True):
    """A challenge: the answer to a health check signs it."""

    nonce: Annotated[str, Meta(max_length=64, pattern=r"^[A-Za-z0-9_-]*\Z")] = ""


class Health(Message, frozen=True):
    """Alive. With a nonce, `signature` (base64) is the daemon's over role, node id and nonce."""

    status: Literal["online", "busy", "draining"]
    node_id: NodeId | None = None
    at: Seconds = 0.0
    signature: bytes = b""


SESSION = Endpoint(
    "POST", "/v1/session", Offer, Accepted, about="Sign in", limit=8192, problems=(BadSignature, Replayed)
)
IDENTITY: Endpoint[None, Identity] = Endpoint("GET", "/identity", gives=Identity, about="Whose key this daemon holds")
HEALTH: Endpoint[None, Health] = Endpoint(
    "GET", "/health-check", gives=Health, query=Nonce, about="Is this daemon alive", deadline=5.0
)
