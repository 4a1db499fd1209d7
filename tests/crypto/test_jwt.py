from __future__ import annotations

import base64
import hmac
import json
from hashlib import sha256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.errors import BadSignature
from grid.crypto.jwt import claims, rsa_key

NOW = 1000.0
SECRET = b"a secret of a service"


def part(said: Any) -> str:
    raw = said if isinstance(said, bytes) else json.dumps(said).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def by_secret(said: Any, head: Any = None, secret: bytes = SECRET) -> str:
    text = f"{part(head or {'alg': 'HS256'})}.{part(said)}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), sha256))}"


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def pem_of(key: rsa.RSAPrivateKey) -> str:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def test_the_example_of_rfc_7515_a_1_is_good_until_its_end() -> None:
    token = (
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9"
        ".eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
        ".dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    )
    secret = base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )

    assert claims(token, 1300819379.0, secret=secret)["iss"] == "joe"
    with pytest.raises(BadSignature, match="expired"):
        claims(token, 1300819380.0, secret=secret)


def test_a_token_of_an_rsa_key_is_good(key: rsa.RSAPrivateKey) -> None:
    text = f"{part({'alg': 'RS256'})}.{part({'exp': NOW + 1, 'sub': 'phone'})}"
    token = f"{text}.{part(key.sign(text.encode(), padding.PKCS1v15(), SHA256()))}"

    assert claims(token, NOW, public_key=pem_of(key))["sub"] == "phone"
    with pytest.raises(BadSignature):
        claims(token[:-8] + "AAAAAAAA", NOW, public_key=pem_of(key))


def test_a_public_key_is_no_secret_to_sign_with(key: rsa.RSAPrivateKey) -> None:
    """The confusion of HMAC with RSA: PyGrid decoded tokens of devices without saying which algorithm is meant."""
    forged = by_secret({"exp": NOW + 1}, secret=pem_of(key).encode())

    with pytest.raises(BadSignature):
        claims(forged, NOW, public_key=pem_of(key))


@pytest.mark.parametrize(
    "token",
    [
        by_secret({"sub": "phone"}),
        by_secret({"exp": NOW}),
        by_secret({"exp": "tomorrow"}),
        by_secret({"exp": NOW + 1, "nbf": NOW + 1}),
        by_secret({"exp": NOW + 1}, {"alg": "none"}),
        by_secret({"exp": NOW + 1}, {"alg": "HS512"}),
        by_secret({"exp": NOW + 1}, secret=b"another"),
        by_secret([1]),
        part({"alg": "none"}) + "." + part({"exp": NOW + 1}) + ".",
        "",
        "a.b.c",
    ],
)
def test_whatever_is_not_signed_as_agreed_or_has_no_end_is_refused(token: str) -> None:
    with pytest.raises(BadSignature):
        claims(token, NOW, secret=SECRET)


@given(st.text(max_size=200))
def test_anything_else_is_refused_too(token: str) -> None:
    with pytest.raises(BadSignature):
        claims(token, NOW, secret=SECRET)


def test_a_key_that_is_no_rsa_key_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        rsa_key("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----")
