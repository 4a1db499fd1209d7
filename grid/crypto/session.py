"""Sessions: two signatures agree on a key once, then every request carries a MAC made with it.

The handshake is a signed Diffie-Hellman exchange (SIGMA: Krawczyk 2003; X25519 by RFC 7748, HKDF by
RFC 5869). The caller signs who it is, whom it means and a fresh key; the server signs that whole offer
and a fresh key of its own; the session key is bound to both. An offer that is replayed gives nothing to
whoever replays it: the session key needs the private half of the offer's fresh key.

An Authorization header is either
    Session <id>.<counter>.<mac>              inside a session
    Signature <key>.<time>.<nonce>.<signature>    one request by a caller without a session
Both cover method, target and the SHA-256 of the body.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from msgspec import Meta

from grid.crypto.encoding import Key32, Moment, Record, b64, pack, unb64, unpack
from grid.crypto.errors import BadSignature, Malformed, Replayed
from grid.crypto.identity import Identity, public_from_id
from grid.crypto.replay import NonceCache, ReplayWindow
from grid.crypto.signing import CLOCK_SKEW, SIGNATURE_BYTES, verify

__all__ = [
    "EMPTY_BODY",
    "SEALED_BODY",
    "Authorization",
    "NonceCache",
    "OfferState",
    "ReplayWindow",
    "ServedSession",
    "SessionKey",
    "accept",
    "authorization",
    "offer",
    "parse_authorization",
    "sign_request",
    "verify_request",
]

EMPTY_BODY = hashlib.sha256(b"").digest()
SEALED_BODY = bytes(32)
"""Stands for the digest of a streamed envelope, which is signed itself. The endpoint decides that, not the caller."""

MAX_RECORD = 1024
LIFETIME = 3600.0
_COUNTERS = 2**63

Entropy = Callable[[int], bytes]


class Offer(Record, frozen=True, kw_only=True):
    """The caller's half of the handshake; its signature follows it."""

    version: Literal[1] = 1
    caller: Key32
    audience: Key32
    ephemeral: Key32
    nonce: Annotated[bytes, Meta(min_length=16, max_length=16)]
    time: Moment


class Accepted(Record, frozen=True, kw_only=True):
    """The server's half; its signature covers the digest of the offer too."""

    version: Literal[1] = 1
    server: Key32
    ephemeral: Key32
    session: Annotated[bytes, Meta(min_length=16, max_length=16)]
    expires: Moment


@dataclass(frozen=True, slots=True)
class SessionKey:
    """What both ends hold: `id` (22 characters), `key` (32 bytes, secret), `expires` (UTC seconds)."""

    id: str
    key: bytes = field(repr=False)
    expires: float

    def mac(self, counter: int, method: str, target: str, body_digest: bytes) -> bytes:
        """HMAC-SHA256 (32 bytes) of a request: counter, 32-byte body digest, method, target (path and query)."""
        if len(body_digest) != 32:
            raise ValueError("a body digest has 32 bytes")
        # Fixed widths first and a method has no space, so no two requests share these bytes.
        message = counter.to_bytes(8, "big") + body_digest + _line(method, target)
        return hmac.digest(self.key, message, "sha256")


# --- the handshake ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OfferState:
    """What the caller keeps between its offer and the answer."""

    offer: bytes
    audience: bytes
    _private: X25519PrivateKey = field(repr=False)

    def complete(self, accepted_bytes: bytes, now: float) -> SessionKey:
        """The session key, once the server has proved to be the one that was meant.

        Raises:
            Malformed: not an answer.
            BadSignature: not the answer of `audience` to this offer.
            Replayed: the session is over already.
        """
        body, signature = _split(accepted_bytes)
        verify(self.audience, "session/accepted", hashlib.sha256(self.offer).digest() + body, signature)
        accepted = unpack(body, Accepted)
        if accepted.server != self.audience:
            raise BadSignature("the answer names another server")
        if accepted.expires <= now:
            raise Replayed("the session is over already")
        return _agree(self._private, accepted.ephemeral, self.offer, accepted_bytes, accepted)


def offer(
    identity: Identity, audience_public: bytes, now: float, *, entropy: Entropy = os.urandom
) -> tuple[bytes, OfferState]:
    """Open a handshake with the server whose public key is `audience_public`: the bytes to send, and what to keep."""
    private = X25519PrivateKey.from_private_bytes(entropy(32))
    body = pack(
        Offer(
            caller=identity.public,
            audience=audience_public,
            ephemeral=private.public_key().public_bytes_raw(),
            nonce=entropy(16),
            time=int(now),
        )
    )
    message = body + identity.sign("session/offer", body)
    return message, OfferState(message, audience_public, private)


def accept(
    identity: Identity,
    offer_bytes: bytes,
    now: float,
    *,
    nonces: NonceCache,
    lifetime: float = LIFETIME,
    entropy: Entropy = os.urandom,
) -> tuple[bytes, bytes, SessionKey]:
    """Answer an offer: the bytes to send back, the caller's public key, the session key.

    Raises:
        Malformed: not an offer.
        BadSignature: forged, or meant for another server.
        Replayed: more than CLOCK_SKEW from now, or seen before.
        NoncesFull: too many offers at once.
    """
    body, signature = _split(offer_bytes)
    offered = unpack(body, Offer)
    if offered.audience != identity.public:
        raise BadSignature("the offer is meant for another server")
    _refuse_stale(offered.time, now)
    verify(offered.caller, "session/offer", body, signature)
    nonces.remember(offered.caller + offered.nonce, now)
    private = X25519PrivateKey.from_private_bytes(entropy(32))
    accepted = Accepted(
        server=identity.public,
        ephemeral=private.public_key().public_bytes_raw(),
        session=entropy(16),
        expires=int(now + lifetime),
    )
    answer = pack(accepted)
    answer += identity.sign("session/accepted", hashlib.sha256(offer_bytes).digest() + answer)
    return answer, offered.caller, _agree(private, offered.ephemeral, offer_bytes, answer, accepted)


def _agree(
    private: X25519PrivateKey, ephemeral: bytes, offer_bytes: bytes, accepted_bytes: bytes, accepted: Accepted
) -> SessionKey:
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    except ValueError as error:  # a point of small order: the secret would be zero
        raise Malformed("not a key to agree with") from error
    transcript = hashlib.sha256(hashlib.sha256(offer_bytes).digest() + accepted_bytes).digest()
    key = HKDF(SHA256(), 32, salt=transcript, info=b"grid/session/key").derive(shared)
    return SessionKey(b64(accepted.session), key, float(accepted.expires))


def _split(data: bytes) -> tuple[bytes, bytes]:
    if not SIGNATURE_BYTES < len(data) <= MAX_RECORD:
        raise Malformed(f"{len(data)} bytes are no part of a handshake")
    return data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]


def _refuse_stale(time: float, now: float) -> None:
    if abs(now - time) > CLOCK_SKEW:
        raise Replayed(f"its time is {time - now:+.0f} seconds from ours; {CLOCK_SKEW:.0f} are allowed")


# --- requests inside a session ------------------------------------------------------------------


class Authorization(NamedTuple):
    """The parts of a `Session` header: session id, counter (0 to 2**63 - 1), MAC as it stands there (base64url)."""

    id: str
    counter: int
    mac: str


def authorization(key: SessionKey, counter: int, method: str, target: str, body_digest: bytes) -> str:
    """The Authorization header of a request. Each counter may be used once in a session."""
    return f"Session {key.id}.{counter}.{b64(key.mac(counter, method, target, body_digest))}"


def parse_authorization(value: str) -> Authorization:
    """The parts of a `Session` header, not yet checked (see `ServedSession`). Raises Malformed."""
    session, counter, mac = _parts(value, "Session ", 3)
    if len(session) != 22 or len(mac) != 43 or not mac.isascii():
        raise Malformed("not a session id and a MAC")
    return Authorization(session, _number(counter), mac)


class ServedSession:
    """The server's side of a session: its key, its `caller` (public key, 32 bytes), the counters it has used."""

    def __init__(self, key: SessionKey, caller: bytes, window: int = 1024) -> None:
        self.key, self.caller = key, caller
        self._window = ReplayWindow(window)

    def admit(self, given: Authorization, method: str, target: str, body_digest: bytes, now: float) -> None:
        """Check one request; `body_digest` is that of the body as it arrived.

        Raises:
            BadSignature: another key, method, target or body.
            Replayed: the session is over, or the counter was used before or is too old to tell.
        """
        if now >= self.key.expires:
            raise Replayed("the session is over")
        # As text: the header is compared with the only one that is right, and never decoded.
        if not hmac.compare_digest(b64(self.key.mac(given.counter, method, target, body_digest)), given.mac):
            raise BadSignature("the MAC belongs to another request")
        # Only now: a forged request must not use up a counter.
        if not self._window.accept(given.counter):
            raise Replayed(f"counter {given.counter} was used before, or is too old to tell")


# --- one signed request without a session -------------------------------------------------------


def sign_request(
    identity: Identity, audience: bytes, method: str, target: str, body_digest: bytes, now: float, nonce: bytes
) -> str:
    """The Authorization header of a single request to the server `audience`; `nonce` is 16 fresh random bytes."""
    time = int(now)
    message = _request(identity.public, audience, method, target, body_digest, time, nonce)
    return f"Signature {identity.id}.{time}.{b64(nonce)}.{b64(identity.sign('request', message))}"


def verify_request(
    value: str, audience: bytes, method: str, target: str, body_digest: bytes, now: float, *, nonces: NonceCache
) -> bytes:
    """The public key of whoever signed this request to us (`audience`, our own public key).

    Raises:
        Malformed: not a `Signature` header.
        BadSignature: another key, server, method, target or body.
        Replayed: more than CLOCK_SKEW from now, or seen before.
        NoncesFull: too many at once.
    """
    who, when, once, signed = _parts(value, "Signature ", 4)
    caller, time, nonce = public_from_id(who), _number(when), unb64(once, 16)
    _refuse_stale(time, now)
    message = _request(caller, audience, method, target, body_digest, time, nonce)
    verify(caller, "request", message, unb64(signed, SIGNATURE_BYTES))
    nonces.remember(caller + nonce, now)
    return caller


def _request(
    caller: bytes, audience: bytes, method: str, target: str, body_digest: bytes, time: int, nonce: bytes
) -> bytes:
    if not len(caller) == len(audience) == len(body_digest) == 32 or len(nonce) != 16:
        raise ValueError("keys and digests have 32 bytes, nonces 16")
    return caller + audience + time.to_bytes(8, "big") + nonce + body_digest + _line(method, target)


def _line(method: str, target: str) -> bytes:
    return f"{method} {target}".encode("utf-8", "surrogatepass")  # servers decode odd bytes of a target to surrogates


def _parts(value: str, scheme: str, count: int) -> list[str]:
    parts = value.removeprefix(scheme).split(".", count)
    if not value.startswith(scheme) or len(parts) != count or len(value) > MAX_RECORD:
        raise Malformed(f"not a {scheme.strip()} header")
    return parts


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 19) or int(text) >= _COUNTERS:
        raise Malformed("not a number")
    return int(text)
