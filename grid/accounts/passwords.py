"""Passwords as they are kept: by Argon2id (RFC 9106). Those of earlier versions, by scrypt, change when used."""

from __future__ import annotations

import hashlib
import hmac
import os
from typing import NamedTuple

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

_SALT, _LENGTH = 16, 32
_OLD = "$scrypt$"


class Effort(NamedTuple):
    """What a guess costs: KiB of memory, and passes over it."""

    memory: int = 19_456
    passes: int = 2


GUESS = Effort()
"""19 MiB and some 50 ms for each guess: what OWASP's Password Storage Cheat Sheet asks of Argon2id with one lane."""


def kept(password: str, effort: Effort = GUESS) -> str:
    """What is kept of a password, in the PHC format."""
    salt = os.urandom(_SALT)
    kdf = Argon2id(salt=salt, length=_LENGTH, iterations=effort.passes, lanes=1, memory_cost=effort.memory)
    return kdf.derive_phc_encoded(password.encode())


def fits(password: str, kept: str) -> bool:
    """Whether this is the password of which that was kept. Takes as long as making it did."""
    if kept.startswith(_OLD):
        salt, digest = map(bytes.fromhex, kept.removeprefix(_OLD).split("$"))
        return hmac.compare_digest(hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1), digest)
    try:
        Argon2id.verify_phc_encoded(password.encode(), kept)
    except InvalidKey:
        return False
    return True


def is_old(kept: str) -> bool:
    """Whether it should be kept anew."""
    return kept.startswith(_OLD)
