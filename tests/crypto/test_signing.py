"""Signatures mean one thing, for one purpose, by one key."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto import signing
from grid.crypto.errors import BadSignature
from grid.crypto.identity import Identity
from grid.crypto.signing import framed, verify

ALICE, MALLORY = Identity.from_seed(b"a" * 32), Identity.from_seed(b"m" * 32)

P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P
Point = tuple[int, int]


def add(p: Point, q: Point) -> Point:
    (x1, y1), (x2, y2) = p, q
    k = D * x1 * x2 * y1 * y2
    return (x1 * y2 + x2 * y1) * pow(1 + k, -1, P) % P, (y1 * y2 + x1 * x2) * pow(1 - k, -1, P) % P


def on_curve(y: int) -> Point:
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    root = pow(square, (P + 3) // 8, P)
    x = root if root * root % P == square else root * pow(2, (P - 1) // 4, P) % P
    assert x * x % P == square
    return x, y


def test_what_is_signed_verifies() -> None:
    verify(ALICE.public, "greeting", b"hello", ALICE.sign("greeting", b"hello"))


@pytest.mark.parametrize(
    ("public", "domain", "message"),
    [
        (MALLORY.public, "greeting", b"hello"),
        (ALICE.public, "farewell", b"hello"),
        (ALICE.public, "greeting", b"hellp"),
    ],
)
def test_another_key_purpose_or_message_does_not(public: bytes, domain: str, message: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(public, domain, message, ALICE.sign("greeting", b"hello"))


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"x" * 65])
def test_what_is_no_signature_is_refused_as_one(signature: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(ALICE.public, "greeting", b"hello", signature)


DOMAINS = st.from_regex(r"[a-z0-9][a-z0-9/.-]{0,8}[a-z0-9]", fullmatch=True)


@given(DOMAINS, st.binary(max_size=12), DOMAINS, st.binary(max_size=12))
def test_no_two_purposes_and_messages_share_what_is_signed(d1: str, m1: bytes, d2: str, m2: bytes) -> None:
    assert (framed(d1, m1) == framed(d2, m2)) == ((d1, m1) == (d2, m2))


@pytest.mark.parametrize("domain", ["", "a\0b", "UPPER", "a b", "/a", "a/", "a\n"])
def test_a_domain_that_could_be_mistaken_is_a_bug(domain: str) -> None:
    with pytest.raises(ValueError, match="domain"):
        framed(domain, b"")


def test_a_key_under_which_everything_verifies_is_refused() -> None:
    neutral = b"\1" + bytes(31)
    signature = neutral + bytes(32)
    Ed25519PublicKey.from_public_bytes(neutral).verify(signature, framed("greeting", b"anything"))  # the library's view

    with pytest.raises(BadSignature, match="can sign"):
        verify(neutral, "greeting", b"anything", signature)


def test_the_refused_points_are_those_of_small_order() -> None:
    for y in signing._SMALL_ORDER_Y:
        point = on_curve(y)
        for _ in range(3):
            point = add(point, point)
        assert point == (0, 1)
    assert len(signing._SMALL_ORDER_Y) == 5  # eight points, of which three pairs share their y


@pytest.mark.parametrize("public", [b"", b"x" * 31, b"\xff" * 32, (P + 1).to_bytes(32, "little")])
def test_what_is_no_key_is_refused(public: bytes) -> None:
    with pytest.raises(BadSignature):
        verify(public, "greeting", b"", bytes(64))


def test_known_answer() -> None:
    identity = Identity.from_seed(bytes(range(32)))

    signature = identity.sign("greeting", b"hello")

    Ed25519PublicKey.from_public_bytes(identity.public).verify(signature, b"grid/greeting\0hello")
    assert signature.hex()[:32] == "3e170d31d0fe6002d208df36668d0815"
