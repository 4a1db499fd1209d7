"""Ed25519 signatures with a domain: bytes signed for one purpose mean nothing for another.

What is signed is `"grid/" domain NUL message`. A domain has no NUL in it, so the first NUL ends it
and no two pairs of domain and message share the same bytes.
"""

from __future__ import annotations

import re
from functools import lru_cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from grid.crypto.errors import BadSignature

SIGNATURE_BYTES = 64
CLOCK_SKEW = 60.0
"""Seconds by which two clocks may disagree."""

_P = 2**255 - 19
_Y8 = 0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7
# Under a point of small order nearly every signature verifies, for any message (RFC 8032 leaves this to us).
_SMALL_ORDER_Y = frozenset({0, 1, _P - 1, _Y8, _P - _Y8})
_DOMAIN = re.compile(r"[a-z0-9]([a-z0-9/.-]*[a-z0-9])?")


@lru_cache(maxsize=256)
def _prefix(domain: str) -> bytes:
    if not _DOMAIN.fullmatch(domain):
        raise ValueError(f"{domain!r} is not a signature domain")
    return b"grid/" + domain.encode() + b"\0"


def framed(domain: str, message: bytes) -> bytes:
    """The bytes that are signed when `message` is signed for `domain`. Raises ValueError for a bad domain."""
    return _prefix(domain) + message


@lru_cache(maxsize=4096)
def _parsed(public: bytes) -> Ed25519PublicKey:
    y = int.from_bytes(public, "little") & (2**255 - 1)
    if len(public) != 32 or y >= _P or y in _SMALL_ORDER_Y:
        raise BadSignature("not a public key that can sign")
    return Ed25519PublicKey.from_public_bytes(public)


def verify(public: bytes, domain: str, message: bytes, signature: bytes) -> None:
    """Check that `public` (32 bytes) signed `message` for `domain` (RFC 8032, Ed25519).

    Raises:
        BadSignature: it did not, or `public` is no key that can be trusted to sign.
    """
    try:
        _parsed(public).verify(signature, framed(domain, message))
    except InvalidSignature as error:
        raise BadSignature(f"not signed by this key for {domain}") from error
