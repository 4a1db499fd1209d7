from __future__ import annotations

from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB
from msgspec.structs import replace

from grid.crypto.errors import EnvelopeRefused, Malformed
from grid.crypto.masks import Keystream, RoundKeys, Transcript, open_shares, pair_seed, seal_shares, self_seed

ANN, BOB, EVE = (X25519PrivateKey.from_private_bytes(name * 32) for name in (b"a", b"b", b"e"))
T = bytes(range(32))


def public(key: X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def keys(name: bytes) -> RoundKeys:
    return RoundKeys(node=name * 32, masks=b"m" * 32, shares=b"s" * 32)


TRANSCRIPT = Transcript(
    run="r1",
    round=3,
    plan=b"p" * 32,
    model=b"m" * 32,
    strategy=b"s" * 32,
    roster=(keys(b"a"), keys(b"b")),
    threshold=2,
    range_=4.0,
    numbers=9,
)


def test_two_nodes_come_to_the_same_seed_and_a_third_to_another() -> None:
    seed = pair_seed(ANN, public(BOB), T)

    assert seed == pair_seed(BOB, public(ANN), T)
    assert seed != pair_seed(EVE, public(ANN), T)


def test_nodes_that_were_told_different_things_have_masks_that_do_not_cancel() -> None:
    assert pair_seed(ANN, public(BOB), T) != pair_seed(BOB, public(ANN), bytes(32))


def test_the_seeds_and_streams_of_known_keys_are_known() -> None:
    """Vectors for whoever writes this in another language."""
    stream = bytearray(16)
    Keystream(bytes(16)).fill(memoryview(stream))

    # AES-128 of the zero block under the zero key: NIST AESAVS, appendix.
    assert stream.hex() == "66e94bd4ef8a2c3b884cfa59ca342b2e"
    assert pair_seed(ANN, public(BOB), T).hex() == "d71397982cc52a2e7d225dce35f91c56"
    assert self_seed(bytes(32), T).hex() == "84d69cec79eba548f52cdecb98393dfe"
    assert TRANSCRIPT.digest().hex() == "5cebb8275117223599e5f8cc3a53a52ad3aaddc2beea5b5d0f9725027fed4b86"


@pytest.mark.parametrize(
    "other",
    [
        replace(TRANSCRIPT, run="r2"),
        replace(TRANSCRIPT, round=4),
        replace(TRANSCRIPT, plan=b"q" * 32),
        replace(TRANSCRIPT, model=b"n" * 32),
        replace(TRANSCRIPT, strategy=b"t" * 32),
        replace(TRANSCRIPT, roster=(keys(b"b"), keys(b"a"))),
        replace(TRANSCRIPT, threshold=1),
        replace(TRANSCRIPT, range_=5.0),
        replace(TRANSCRIPT, numbers=10),
    ],
)
def test_a_transcript_stands_for_everything_in_it(other: Transcript) -> None:
    assert other.digest() != TRANSCRIPT.digest()


def test_shares_are_opened_by_whom_they_are_for() -> None:
    sealed = seal_shares(ANN, public(BOB), T, b"two shares")

    assert open_shares(BOB, public(ANN), T, sealed) == b"two shares"


def test_shares_for_another_node_another_sum_or_sent_back_are_refused() -> None:
    sealed = seal_shares(ANN, public(BOB), T, b"two shares")

    for opener, sender, transcript in ((EVE, ANN, T), (BOB, EVE, T), (BOB, ANN, bytes(32)), (ANN, BOB, T)):
        with pytest.raises(EnvelopeRefused):
            open_shares(opener, public(sender), transcript, sealed)


@pytest.mark.parametrize("key", [b"short", bytes(32)], ids=["short", "of small order"])
def test_what_is_no_key_is_refused(key: bytes) -> None:
    with pytest.raises(Malformed):
        pair_seed(ANN, key, T)


def test_a_stream_is_aes_in_counter_mode_from_zero() -> None:
    """NIST SP 800-38A, section 6.5: the counter's blocks one by one, far behind the first ones too."""
    one, stream, drawn = Cipher(AES(b"k" * 16), ECB()).encryptor(), Keystream(b"k" * 16), bytearray(128 << 10)
    for chunk in range(3):
        stream.fill(memoryview(drawn))

        counters = range(chunk * 8192, (chunk + 1) * 8192)
        assert drawn == one.update(b"".join(counter.to_bytes(16, "big") for counter in counters))


def test_a_stream_goes_on_where_it_was() -> None:
    whole, parts, stream = bytearray(80), bytearray(80), Keystream(b"k" * 16)
    Keystream(b"k" * 16).fill(memoryview(whole))
    ends = (0, 5, 16, 20, 48, 49, 80)
    for begin, end in pairwise(ends):
        stream.fill(memoryview(parts)[begin:end])

    assert parts == whole


def test_a_stream_gives_no_more_than_a_chunk_at_a_time() -> None:
    with pytest.raises(ValueError, match="at a time"):
        Keystream(bytes(16)).fill(memoryview(bytearray((128 << 10) + 1)))
