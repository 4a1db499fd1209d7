"""Prekeys: the short-lived keys that payloads are sealed to, published under their owner's signature.

HPKE (RFC 9180, base mode) with the hybrid KEM ML-KEM-768 + X25519, HKDF-SHA256 and AES-128-GCM: whoever
records traffic today needs to break both to read it later. A node publishes a new prekey from time to time
and erases old private halves; what was sealed to an erased one stays sealed (forward secrecy).
Base mode does not say who sealed: envelopes are signed (see `envelope`).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from msgspec import Meta

from grid.crypto.encoding import Key32, Moment, Record, pack, unpack
from grid.crypto.errors import BadSignature, Malformed, Replayed
from grid.crypto.identity import Identity
from grid.crypto.signing import CLOCK_SKEW, SIGNATURE_BYTES, verify

ID_BYTES = 8
PUBLIC_BYTES = 1216  # ML-KEM-768 (1,184), then X25519 (32)
PRIVATE_BYTES = 96  # the seeds, in the same order: 64 and 32
WRAP_OVERHEAD = 1136  # encapsulation (1,120) and tag (16)

_MLKEM_PUBLIC, _MLKEM_SEED = 1184, 64
_SUITE = hpke.Suite(hpke.KEM.MLKEM768_X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_128_GCM)


class Prekey:
    """The private half. `id` is 8 bytes made from `public`, its 1,216 public bytes."""

    def __init__(self, mlkem: MLKEM768PrivateKey, x25519: X25519PrivateKey) -> None:
        self._mlkem, self._x25519 = mlkem, x25519
        self._hybrid = hpke.MLKEM768X25519PrivateKey(mlkem, x25519)
        self.public: bytes = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
        self.id: bytes = prekey_id(self.public)

    def __repr__(self) -> str:
        return f"Prekey({self.id.hex()})"

    @classmethod
    def generate(cls, entropy: Callable[[int], bytes] = os.urandom) -> Prekey:
        """A new prekey."""
        return cls.from_private_bytes(entropy(PRIVATE_BYTES))

    @classmethod
    def from_private_bytes(cls, data: bytes) -> Prekey:
        """The prekey that `private_bytes` wrote. Raises Malformed."""
        if len(data) != PRIVATE_BYTES:
            raise Malformed(f"a private prekey has {PRIVATE_BYTES} bytes")
        mlkem = MLKEM768PrivateKey.from_seed_bytes(data[:_MLKEM_SEED])
        return cls(mlkem, X25519PrivateKey.from_private_bytes(data[_MLKEM_SEED:]))

    def private_bytes(self) -> bytes:
        """Its secret, 96 bytes, for the store to keep and, in time, to erase."""
        return self._mlkem.private_bytes_raw() + self._x25519.private_bytes_raw()

    def unwrap(self, wrapped: bytes, info: bytes) -> bytes:
        """The secret inside `wrapped`. Raises BadSignature if it was wrapped for another key or `info`."""
        try:
            return _SUITE.decrypt(wrapped, self._hybrid, info)
        except (InvalidTag, ValueError) as error:
            raise BadSignature("wrapped for another key or purpose, or altered") from error


@dataclass(frozen=True)
class PrekeyPublic:
    """The public half: `id` (8 bytes), `public` (1,216 bytes), when it is valid (UTC seconds), `owner` (32 bytes)."""

    id: bytes
    public: bytes
    not_before: int
    not_after: int
    owner: bytes

    @cached_property
    def _hybrid(self) -> hpke.MLKEM768X25519PublicKey:
        mlkem = MLKEM768PublicKey.from_public_bytes(self.public[:_MLKEM_PUBLIC])
        return hpke.MLKEM768X25519PublicKey(mlkem, X25519PublicKey.from_public_bytes(self.public[_MLKEM_PUBLIC:]))

    def wrap(self, secret: bytes, info: bytes) -> bytes:
        """`secret` for the owner alone, WRAP_OVERHEAD bytes longer. Raises Malformed if the key is unusable."""
        try:
            return _SUITE.encrypt(secret, self._hybrid, info)
        except ValueError as error:  # its owner signed a key that is no key
            raise Malformed(f"nothing can be sealed to prekey {self.id.hex()}") from error


class Published(Record, frozen=True, kw_only=True):
    """What is signed when a prekey is published; the owner's signature follows it."""

    version: Literal[1] = 1
    suite: Literal[1] = 1
    owner: Key32
    public: Annotated[bytes, Meta(min_length=PUBLIC_BYTES, max_length=PUBLIC_BYTES)]
    not_before: Moment
    not_after: Moment


def prekey_id(public: bytes) -> bytes:
    """The 8 bytes that name a prekey: the beginning of a SHA-256 of its public bytes."""
    return hashlib.sha256(b"grid/prekey\0" + public).digest()[:ID_BYTES]


def publish(identity: Identity, prekey: Prekey, not_before: float, not_after: float) -> bytes:
    """A prekey's public half under its owner's signature, valid between two moments (UTC seconds)."""
    body = pack(
        Published(owner=identity.public, public=prekey.public, not_before=int(not_before), not_after=int(not_after))
    )
    return body + identity.sign("prekey", body)


def read_published(data: bytes, owner_public: bytes, now: float) -> PrekeyPublic:
    """The prekey that `owner_public` published.

    Raises:
        Malformed: not a published prekey.
        BadSignature: not published by this owner.
        Replayed: not valid now: expired, or more than CLOCK_SKEW from its beginning.
    """
    body, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    verify(owner_public, "prekey", body, signature)
    published = unpack(body, Published)
    if published.owner != owner_public:
        raise BadSignature("the prekey names another owner")
    if not published.not_before - CLOCK_SKEW <= now < published.not_after:
        raise Replayed(f"valid from {published.not_before} to {published.not_after}, and it is {now:.0f}")
    return PrekeyPublic(
        prekey_id(published.public), published.public, published.not_before, published.not_after, owner_public
    )
