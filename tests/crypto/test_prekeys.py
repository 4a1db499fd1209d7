"""A prekey is who its owner says, for as long as its owner says; an erased one opens nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.encoding import pack
from grid.crypto.errors import BadSignature, CryptoError, Malformed, Replayed
from grid.crypto.identity import Identity
from grid.crypto.prekeys import WRAP_OVERHEAD, Prekey, Published, publish, read_published

BOB, MALLORY = Identity.from_seed(b"b" * 32), Identity.from_seed(b"m" * 32)
PREKEY = Prekey.from_private_bytes(bytes(range(96)))
PUBLISHED = publish(BOB, PREKEY, 1000, 2000)


def test_a_published_prekey_can_be_sealed_to() -> None:
    public = read_published(PUBLISHED, BOB.public, 1500)

    wrapped = public.wrap(b"secret", b"info")

    assert len(wrapped) == len(b"secret") + WRAP_OVERHEAD
    assert PREKEY.unwrap(wrapped, b"info") == b"secret"
    assert (public.id, public.owner, public.not_before, public.not_after) == (PREKEY.id, BOB.public, 1000, 2000)
    assert (len(public.id), len(public.public)) == (8, 1216)


def test_no_two_wraps_are_alike() -> None:
    public = read_published(PUBLISHED, BOB.public, 1500)

    assert public.wrap(b"secret", b"info") != public.wrap(b"secret", b"info")


def test_a_wrap_opens_for_its_key_and_purpose_only() -> None:
    wrapped = read_published(PUBLISHED, BOB.public, 1500).wrap(b"secret", b"info")

    for prekey, data, info in [
        (Prekey.generate(), wrapped, b"info"),
        (PREKEY, wrapped, b"other"),
        (PREKEY, wrapped[:-1], b"info"),
        (PREKEY, wrapped[:500], b"info"),
        (PREKEY, b"", b"info"),
    ]:
        with pytest.raises(BadSignature):
            prekey.unwrap(data, info)


def test_a_relay_cannot_substitute_a_prekey_of_its_own() -> None:
    hers = publish(MALLORY, Prekey.generate(), 1000, 2000)
    in_his_name = pack(Published(owner=BOB.public, public=PREKEY.public, not_before=1000, not_after=2000))

    for substitute in (hers, in_his_name + MALLORY.sign("prekey", in_his_name), in_his_name + hers[-64:]):
        with pytest.raises(BadSignature):
            read_published(substitute, BOB.public, 1500)


def test_a_prekey_that_names_another_owner_is_refused() -> None:
    hers = pack(Published(owner=MALLORY.public, public=PREKEY.public, not_before=1000, not_after=2000))

    with pytest.raises(BadSignature, match="another owner"):
        read_published(hers + BOB.sign("prekey", hers), BOB.public, 1500)


@pytest.mark.parametrize(("now", "valid"), [(939, False), (940, True), (1999.9, True), (2000, False)])
def test_a_prekey_has_its_time(now: float, valid: bool) -> None:
    if valid:
        assert read_published(PUBLISHED, BOB.public, now).id == PREKEY.id
    else:
        with pytest.raises(Replayed):
            read_published(PUBLISHED, BOB.public, now)


@given(st.integers(0, len(PUBLISHED) - 1), st.integers(0, 7))
def test_no_bit_of_a_published_prekey_can_change(position: int, bit: int) -> None:
    altered = bytearray(PUBLISHED)
    altered[position] ^= 1 << bit

    with pytest.raises(BadSignature):
        read_published(bytes(altered), BOB.public, 1500)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_prekey_even_if_signed(data: bytes) -> None:
    with pytest.raises(CryptoError):
        read_published(data, BOB.public, 1500)
    with pytest.raises(Malformed):
        read_published(data + BOB.sign("prekey", data), BOB.public, 1500)


def test_a_key_that_is_no_key_hurts_nobody_but_its_owner() -> None:
    for public in (b"\xff" * 1216, PREKEY.public[:1184] + bytes(32)):
        body = pack(Published(owner=BOB.public, public=public, not_before=1000, not_after=2000))
        prekey = read_published(body + BOB.sign("prekey", body), BOB.public, 1500)
        with pytest.raises(Malformed):
            prekey.wrap(b"secret", b"info")


def test_a_kept_private_half_is_the_same_prekey() -> None:
    prekey = Prekey.generate()
    wrapped = read_published(publish(BOB, prekey, 1000, 2000), BOB.public, 1500).wrap(b"secret", b"info")

    again = Prekey.from_private_bytes(prekey.private_bytes())

    assert (again.id, again.public) == (prekey.id, prekey.public)
    assert again.unwrap(wrapped, b"info") == b"secret"
    assert prekey.private_bytes().hex() not in repr(prekey)


@pytest.mark.parametrize("size", [0, 95, 97])
def test_half_a_private_half_is_refused(size: int) -> None:
    with pytest.raises(Malformed):
        Prekey.from_private_bytes(bytes(size))


def test_known_answers(entropy: Callable[[str], Callable[[int], bytes]]) -> None:
    assert PREKEY.id.hex() == "689a0c1878dfa0e3"
    assert Prekey.generate(entropy("prekey")).id.hex() == "f5c3a027c23fa22c"
    assert PUBLISHED[-64:].hex()[:32] == "b70e768ed47ed15348e4ed8fbae026bf"
