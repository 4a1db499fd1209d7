"""A secret in shares, of which any `threshold` give it back and fewer tell nothing of it.

Source: Shamir 1979, "How to share a secret", Communications of the ACM 22(11). The field is that of the integers
modulo 2^256 + 297, the least prime above 2^256, so that any 32 bytes are a secret.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping

from grid.crypto.errors import Malformed

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
"""Bytes of one share: a number below the prime, big-endian."""

MOST = 4096
"""Holders of shares of one secret at most."""


def split(secret: bytes, threshold: int, count: int, below: Callable[[int], int] = secrets.randbelow) -> list[bytes]:
    """Shares number 1 to `count` of a secret of 32 bytes, in order. `below(n)` draws a number in [0, n) evenly.

    Raises:
        Malformed: the secret is of another length, or not 1 <= threshold <= count <= 4096.
    """
    if len(secret) != SECRET_BYTES or not 1 <= threshold <= count <= MOST:
        raise Malformed(f"{threshold} of {count} shares of {len(secret)} bytes")
    polynomial = [int.from_bytes(secret, "big"), *(below(PRIME) for _ in range(threshold - 1))]
    return [_at(polynomial, number).to_bytes(SHARE_BYTES, "big") for number in range(1, count + 1)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """The secret, from shares by their numbers; the lowest `threshold` of them are used.

    Wrong shares give a wrong secret: whoever combines checks what comes out, against a public key for instance.

    Raises:
        Malformed: too few, numbered wrongly, not of 33 bytes below the prime, or no secret comes out.
    """
    if len(shares) < threshold or threshold < 1:
        raise Malformed(f"{len(shares)} shares, {threshold} are needed")
    points = [(number, _value(number, shares[number])) for number in sorted(shares)[:threshold]]
    total = 0
    for x, y in points:
        above = below = 1
        for other, _ in points:
            if other != x:
                above = above * other % PRIME
                below = below * (other - x) % PRIME
        total = (total + y * above * pow(below, -1, PRIME)) % PRIME
    if total >> (8 * SECRET_BYTES):
        raise Malformed("these shares are not of one secret")
    return total.to_bytes(SECRET_BYTES, "big")


def _at(polynomial: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % PRIME
    return value


def _value(number: int, share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if not 1 <= number <= MOST or len(share) != SHARE_BYTES or value >= PRIME:
        raise Malformed(f"share {number} is none")
    return value
