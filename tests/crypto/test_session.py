"""Two signatures agree on a key once; after that, each request is made once, by who made it, as it was made."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.encoding import b64, pack, unb64, unpack
from grid.crypto.errors import BadSignature, CryptoError, Malformed, NoncesFull, Replayed
from grid.crypto.identity import Identity
from grid.crypto.replay import NonceCache
from grid.crypto.session import (
    EMPTY_BODY,
    Accepted,
    Authorization,
    Offer,
    ServedSession,
    SessionKey,
    accept,
    authorization,
    offer,
    parse_authorization,
    sign_request,
    verify_request,
)

ALICE, SERVER, MALLORY = (Identity.from_seed(letter * 32) for letter in (b"a", b"s", b"m"))
NOW = 1_800_000_000.0
BODY = hashlib.sha256(b"body").digest()
NONCE = bytes(16)


# --- the handshake ------------------------------------------------------------------------------


def test_both_ends_hold_the_same_key() -> None:
    message, state = offer(ALICE, SERVER.public, NOW)

    answer, caller, served = accept(SERVER, message, NOW + 5, nonces=NonceCache(), lifetime=600)

    assert state.complete(answer, NOW + 6) == served
    assert caller == ALICE.public
    assert served.expires == NOW + 605
    assert len(served.id) == 22
    assert served.key.hex() not in repr(served) + repr(state)


def test_every_handshake_makes_another_key() -> None:
    nonces = NonceCache()
    keys = {accept(SERVER, offer(ALICE, SERVER.public, NOW)[0], NOW, nonces=nonces)[2].key for _ in range(8)}

    assert len(keys) == 8


def test_an_offer_meant_for_another_server_is_refused() -> None:
    message, _ = offer(ALICE, MALLORY.public, NOW)

    with pytest.raises(BadSignature, match="another server"):
        accept(SERVER, message, NOW, nonces=NonceCache())


@pytest.mark.parametrize("late", [-61, 61, 10**6])
def test_an_offer_of_another_time_is_refused(late: int) -> None:
    message, _ = offer(ALICE, SERVER.public, NOW)

    with pytest.raises(Replayed, match="seconds from ours"):
        accept(SERVER, message, NOW + late, nonces=NonceCache())


def test_an_offer_is_taken_once() -> None:
    nonces = NonceCache()
    message, _ = offer(ALICE, SERVER.public, NOW)
    accept(SERVER, message, NOW - 60, nonces=nonces)

    with pytest.raises(Replayed, match="used before"):
        accept(SERVER, message, NOW + 60, nonces=nonces)


def test_a_forged_offer_takes_no_place_in_the_memory() -> None:
    nonces = NonceCache(capacity=1)
    message, _ = offer(ALICE, SERVER.public, NOW)

    with pytest.raises(BadSignature):
        accept(SERVER, message[:-64] + bytes(64), NOW, nonces=nonces)
    accept(SERVER, message, NOW, nonces=nonces)
    with pytest.raises(NoncesFull):
        accept(SERVER, offer(ALICE, SERVER.public, NOW)[0], NOW, nonces=nonces)


def test_mallory_cannot_answer_for_the_server() -> None:
    _, state = offer(ALICE, SERVER.public, NOW)
    readdressed, _ = offer(ALICE, MALLORY.public, NOW)
    answer, _, _ = accept(MALLORY, readdressed, NOW, nonces=NonceCache())

    with pytest.raises(BadSignature):
        state.complete(answer, NOW)


def test_mallory_cannot_put_her_own_key_into_the_servers_answer() -> None:
    message, state = offer(ALICE, SERVER.public, NOW)
    answer, _, _ = accept(SERVER, message, NOW, nonces=NonceCache())
    _, hers = offer(MALLORY, SERVER.public, NOW)
    ephemeral = hers._private.public_key().public_bytes_raw()
    accepted = unpack(answer[:-64], Accepted)
    swapped = pack(Accepted(server=SERVER.public, ephemeral=ephemeral, session=accepted.session, expires=2**40))

    with pytest.raises(BadSignature):
        state.complete(swapped + answer[-64:], NOW)


def test_an_answer_to_another_offer_is_refused() -> None:
    nonces = NonceCache()
    first, _ = offer(ALICE, SERVER.public, NOW)
    _, second = offer(ALICE, SERVER.public, NOW)
    answer, _, _ = accept(SERVER, first, NOW, nonces=nonces)

    with pytest.raises(BadSignature):
        second.complete(answer, NOW)


def test_an_answer_that_comes_after_its_session_is_over_is_refused() -> None:
    message, state = offer(ALICE, SERVER.public, NOW)
    answer, _, _ = accept(SERVER, message, NOW, nonces=NonceCache(), lifetime=30)

    with pytest.raises(Replayed):
        state.complete(answer, NOW + 30)


def test_a_key_that_would_make_the_secret_zero_is_refused() -> None:
    body = pack(Offer(caller=ALICE.public, audience=SERVER.public, ephemeral=bytes(32), nonce=NONCE, time=int(NOW)))

    with pytest.raises(Malformed, match="agree"):
        accept(SERVER, body + ALICE.sign("session/offer", body), NOW, nonces=NonceCache())


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_no_bit_of_an_offer_can_change(position: int, bit: int) -> None:
    message = bytearray(offer(ALICE, SERVER.public, NOW)[0])
    message[position % len(message)] ^= 1 << bit

    with pytest.raises(CryptoError):
        accept(SERVER, bytes(message), NOW, nonces=NonceCache())


@given(st.binary(max_size=2000))
def test_arbitrary_bytes_are_no_part_of_a_handshake(data: bytes) -> None:
    _, state = offer(ALICE, SERVER.public, NOW)

    with pytest.raises(CryptoError):
        accept(SERVER, data, NOW, nonces=NonceCache())
    with pytest.raises(CryptoError):
        state.complete(data, NOW)


# --- requests inside a session ------------------------------------------------------------------

KEY = SessionKey("A" * 22, bytes(range(32)), NOW + 600)


def header(counter: int = 7, key: SessionKey = KEY) -> Authorization:
    return parse_authorization(authorization(key, counter, "POST", "/v1/runs?a=1", BODY))


def test_a_request_is_admitted_once() -> None:
    session = ServedSession(KEY, ALICE.public)

    session.admit(header(), "POST", "/v1/runs?a=1", BODY, NOW)

    with pytest.raises(Replayed, match="counter 7"):
        session.admit(header(), "POST", "/v1/runs?a=1", BODY, NOW)


@pytest.mark.parametrize(
    ("method", "target", "body"),
    [("PUT", "/v1/runs?a=1", BODY), ("POST", "/v1/runs?a=2", BODY), ("POST", "/v1/runs?a=1", EMPTY_BODY)],
)
def test_another_method_target_or_body_is_refused(method: str, target: str, body: bytes) -> None:
    with pytest.raises(BadSignature):
        ServedSession(KEY, ALICE.public).admit(header(), method, target, body, NOW)


def test_bytes_that_are_no_text_in_a_target_are_refused_like_any_other() -> None:
    with pytest.raises(BadSignature):
        ServedSession(KEY, ALICE.public).admit(header(), "POST", "/\udcff", BODY, NOW)
    with pytest.raises(BadSignature):
        verify_request(signed(), SERVER.public, "POST", "/\udcff", BODY, NOW, nonces=NonceCache())


def test_another_key_or_counter_is_refused() -> None:
    session = ServedSession(KEY, ALICE.public)

    for forged in (header(key=replace(KEY, key=bytes(32))), header()._replace(counter=8)):
        with pytest.raises(BadSignature):
            session.admit(forged, "POST", "/v1/runs?a=1", BODY, NOW)


def test_a_forged_request_does_not_use_up_a_counter() -> None:
    session = ServedSession(KEY, ALICE.public)

    with pytest.raises(BadSignature):
        session.admit(header()._replace(mac="A" * 43), "POST", "/v1/runs?a=1", BODY, NOW)

    session.admit(header(), "POST", "/v1/runs?a=1", BODY, NOW)


def test_a_session_ends() -> None:
    with pytest.raises(Replayed, match="over"):
        ServedSession(KEY, ALICE.public).admit(header(), "POST", "/v1/runs?a=1", BODY, KEY.expires)


@given(st.lists(st.integers(0, 3000)))
def test_in_any_order_each_request_is_admitted_at_most_once(counters: list[int]) -> None:
    session, admitted, top = ServedSession(KEY, ALICE.public), set[int](), -1
    for counter in counters:
        try:
            session.admit(header(counter), "POST", "/v1/runs?a=1", BODY, NOW)
        except Replayed:
            assert counter in admitted or counter <= top - 1024
        else:
            assert counter not in admitted
            admitted.add(counter)
            top = max(top, counter)


@given(st.integers(0, 2**63 - 1))
def test_a_session_header_comes_back_as_it_went(counter: int) -> None:
    value = authorization(KEY, counter, "GET", "/", EMPTY_BODY)

    assert parse_authorization(value) == (KEY.id, counter, b64(KEY.mac(counter, "GET", "/", EMPTY_BODY)))


MAC = "A" * 43


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Session ",
        f"Bearer {KEY.id}.1.{MAC}",
        f"session {KEY.id}.1.{MAC}",
        f"Session {KEY.id}.1.{MAC}.x",
        f"Session {KEY.id}.-1.{MAC}",
        f"Session {KEY.id}.+1.{MAC}",
        f"Session {KEY.id}.1_0.{MAC}",
        f"Session {KEY.id}.\u0661.{MAC}",
        f"Session {KEY.id}.{2**63}.{MAC}",
        f"Session {KEY.id}.{'9' * 5000}.{MAC}",
        f"Session {KEY.id}..{MAC}",
        f"Session {KEY.id}.1.{MAC[1:]}",
        f"Session {KEY.id}A.1.{MAC}",
        f"Session {KEY.id}.1.{MAC[1:]}\u00e9",
    ],
)
def test_what_is_no_session_header_is_refused(value: str) -> None:
    with pytest.raises(Malformed):
        parse_authorization(value)


@given(st.text())
def test_arbitrary_text_is_no_header(text: str) -> None:
    for value in (text, f"Session {text}", f"Signature {text}"):
        with pytest.raises(Malformed):
            parse_authorization(value)
        with pytest.raises(Malformed):
            verify_request(value, SERVER.public, "GET", "/", EMPTY_BODY, NOW, nonces=NonceCache())


def test_a_mac_needs_the_whole_digest() -> None:
    with pytest.raises(ValueError, match="32"):
        KEY.mac(1, "GET", "/", b"")


# --- one signed request -------------------------------------------------------------------------


def signed(audience: Identity = SERVER) -> str:
    return sign_request(ALICE, audience.public, "POST", "/v1/session", BODY, NOW, NONCE)


def test_a_signed_request_names_its_caller_once() -> None:
    nonces = NonceCache()

    assert verify_request(signed(), SERVER.public, "POST", "/v1/session", BODY, NOW + 60, nonces=nonces) == ALICE.public

    with pytest.raises(Replayed, match="used before"):
        verify_request(signed(), SERVER.public, "POST", "/v1/session", BODY, NOW, nonces=nonces)


@pytest.mark.parametrize(
    ("audience", "method", "target", "body"),
    [
        (MALLORY, "POST", "/v1/session", BODY),
        (SERVER, "PUT", "/v1/session", BODY),
        (SERVER, "POST", "/v1/other", BODY),
        (SERVER, "POST", "/v1/session", EMPTY_BODY),
    ],
)
def test_a_signed_request_is_for_one_server_and_one_purpose(
    audience: Identity, method: str, target: str, body: bytes
) -> None:
    with pytest.raises(BadSignature):
        verify_request(signed(), audience.public, method, target, body, NOW, nonces=NonceCache())


@pytest.mark.parametrize("late", [-62, 61])
def test_a_signed_request_of_another_time_is_refused(late: int) -> None:
    with pytest.raises(Replayed):
        verify_request(signed(), SERVER.public, "POST", "/v1/session", BODY, NOW + late, nonces=NonceCache())


def test_mallory_cannot_sign_in_with_alices_signature() -> None:
    stolen = signed().replace(ALICE.id, MALLORY.id)

    with pytest.raises(BadSignature):
        verify_request(stolen, SERVER.public, "POST", "/v1/session", BODY, NOW, nonces=NonceCache())


# --- known answers ------------------------------------------------------------------------------


def test_a_mac_can_be_made_in_any_language() -> None:
    message = bytes(7) + b"\7" + BODY + b"POST /v1/runs?a=1"

    assert KEY.mac(7, "POST", "/v1/runs?a=1", BODY) == hmac.digest(KEY.key, message, "sha256")
    assert unb64(header().mac, 32).hex()[:32] == "6b1468d501d3f3c692d59ad384670981"


def test_known_handshake(entropy: Callable[[str], Callable[[int], bytes]]) -> None:
    message, state = offer(ALICE, SERVER.public, NOW, entropy=entropy("caller"))
    answer, _, key = accept(SERVER, message, NOW, nonces=NonceCache(), entropy=entropy("server"))

    assert hashlib.sha256(message).hexdigest()[:32] == "19d563a3f97da52689df287d691602b2"
    assert hashlib.sha256(answer).hexdigest()[:32] == "c726c4716e50dc4ea94997223a1283c2"
    assert (key.id, key.key.hex()[:32]) == ("gi88ZIg868b5WtC9E-65yg", "a329081290539b543771ebcc959645d1")
    assert state.complete(answer, NOW) == key
