"""Tokens that another system signed (RFC 7519): HS256 or RS256, as whoever trusts them says beforehand.

The algorithm is that of the key, never the one that a token names: a public key is no secret to make tokens with.
"""

from __future__ import annotations

import base64
import hmac
import json
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from grid.crypto.errors import BadSignature

LONGEST = 8192
"""Characters of a token, at most."""


def rsa_key(pem: str) -> RSAPublicKey:
    """A public key of RSA, of 2048 bits at least. Raises ValueError."""
    key = load_pem_public_key(pem.encode())
    if not isinstance(key, RSAPublicKey) or key.key_size < 2048:
        raise ValueError("a public key of RSA is expected, of 2048 bits at least")
    return key


def claims(token: str, now: float, *, secret: bytes = b"", public_key: str = "") -> dict[str, Any]:
    """What a token says, if the key (either of the two) signed it and it has not expired (`now`, UTC seconds).

    Raises:
        BadSignature: it is not the key's, has no end, or is past it; or is no token at all.
    """
    try:
        head, _, rest = token.partition(".")
        said, _, mark = rest.partition(".")
        if len(token) > LONGEST or json.loads(_bytes(head)).get("alg") != ("RS256" if public_key else "HS256"):
            raise BadSignature("this token is signed in another way than is asked for")
        _verify(f"{head}.{said}".encode(), _bytes(mark), secret, public_key)
        found = json.loads(_bytes(said))
        if not isinstance(found, dict) or not isinstance(found.get("exp"), int | float):
            raise BadSignature("this token has no end (exp)")
        if found["exp"] <= now or float(found.get("nbf", 0)) > now:
            raise BadSignature("this token has expired, or is not yet good")
    except (ValueError, TypeError, AttributeError, RecursionError, InvalidSignature):
        raise BadSignature("this is no token of those that are trusted") from None
    return found


def _verify(text: bytes, mark: bytes, secret: bytes, public_key: str) -> None:
    if public_key:
        rsa_key(public_key).verify(mark, text, PKCS1v15(), SHA256())
    elif not secret or not hmac.compare_digest(hmac.digest(secret, text, sha256), mark):
        raise BadSignature("this token was signed by somebody else")


def _bytes(part: str) -> bytes:
    return base64.b64decode(part.encode() + b"=" * (-len(part) % 4), altchars=b"-_", validate=True)
