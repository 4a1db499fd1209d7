"""What a relay can check of an envelope that it cannot open."""

from __future__ import annotations

import itertools
import struct
from dataclasses import replace as changed
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from grid.crypto.encoding import pack
from grid.crypto.envelope import (
    MAX_WRAPS,
    Context,
    EnvelopeCheck,
    Header,
    body_size,
    preamble,
    preamble_size,
    read_header,
    verify_envelope_signature,
)
from grid.crypto.errors import EnvelopeRefused
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish, read_published
from grid.crypto.sealing import seal_bytes

ALICE, BOB, MALLORY = (Identity.from_seed(letter * 32) for letter in (b"a", b"b", b"m"))
PREKEY = read_published(publish(BOB, Prekey.from_private_bytes(bytes(96)), 1000, 3000), BOB.public, 1500)
HEADER = Header(sender=ALICE.public, kind="update", project="p", run="r", round=3, seq=1, created=1500, expires=2500)
AWAITED = Context(run="r", round=3, kind="update", sender=ALICE.public)
PAYLOAD = bytes(range(256)) * 200
ENVELOPE = seal_bytes(ALICE, HEADER, PAYLOAD, [PREKEY])
PREAMBLE = preamble_size(1, pack(replace(HEADER, length=len(PAYLOAD))))
START = 12
WRAP = 1192


def refusal(envelope: bytes, expect: Context = AWAITED, now: float = 1600) -> str:
    with pytest.raises(EnvelopeRefused) as refused:
        verify_envelope_signature([envelope], expect, now)
    return refused.value.reason


@given(st.lists(st.integers(0, len(ENVELOPE)), max_size=6))
def test_a_relay_finds_the_signature_good_whatever_the_pieces(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(ENVELOPE)]
    pieces = [ENVELOPE[a:b] for a, b in itertools.pairwise(edges)]

    header = verify_envelope_signature(pieces, AWAITED, 1600)

    assert header == replace(HEADER, length=len(PAYLOAD))


def test_the_pieces_of_the_body_are_passed_on_uncopied() -> None:
    check = EnvelopeCheck(AWAITED, 1600)

    body = check.feed(ENVELOPE)

    assert body == ENVELOPE[PREAMBLE:-64]
    assert body.obj is ENVELOPE
    assert len(body) == body_size(len(PAYLOAD))


def signed_part() -> st.SearchStrategy[int]:
    return st.integers(START, PREAMBLE - WRAP - 1) | st.integers(PREAMBLE, len(ENVELOPE) - 1)


@given(signed_part(), st.integers(0, 7))
def test_a_relay_drops_an_envelope_with_any_bit_changed_that_is_signed(position: int, bit: int) -> None:
    altered = bytearray(ENVELOPE)
    altered[position] ^= 1 << bit

    refusal(bytes(altered))


@given(st.integers(0, len(ENVELOPE) - 1))
def test_a_cut_envelope_is_refused(length: int) -> None:
    assert refusal(ENVELOPE[:length]) == "truncated"


@given(st.binary(min_size=1))
def test_an_envelope_that_goes_on_is_refused(more: bytes) -> None:
    assert refusal(ENVELOPE + more) == "trailing-bytes"


def test_a_refusal_is_not_forgotten() -> None:
    check = EnvelopeCheck(AWAITED, 1600)
    with pytest.raises(EnvelopeRefused):
        check.feed(ENVELOPE + b"x")

    with pytest.raises(EnvelopeRefused, match="trailing-bytes"):
        check.finish()


def test_a_refused_header_cannot_be_talked_past() -> None:
    check = EnvelopeCheck(AWAITED, 9999)

    for _ in range(2):
        with pytest.raises(EnvelopeRefused, match="expired"):
            check.feed(ENVELOPE)
    with pytest.raises(EnvelopeRefused):
        check.finish()


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    refusal(data)
    refusal(struct.pack(">8sHH", b"grid-env", len(data) // 2, 0) + data)


# --- time and place -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "reason"), [(2500, "expired"), (10**9, "expired"), (1439, "not-yet-valid"), (0, "not-yet-valid")]
)
def test_an_envelope_has_its_time(now: float, reason: str) -> None:
    assert refusal(ENVELOPE, now=now) == reason


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"run": "another"},
        {"round": 4},
        {"kind": "checkpoint"},
        {"sender": MALLORY.public},
        {"project": "q"},
        {"seq": 2},
        {"direct": True},
    ],
)
def test_an_envelope_replayed_elsewhere_is_refused(elsewhere: dict[str, Any]) -> None:
    assert refusal(ENVELOPE, changed(AWAITED, **elsewhere)) == "wrong-context"


def test_an_envelope_larger_than_agreed_is_refused_before_its_body() -> None:
    check = EnvelopeCheck(changed(AWAITED, max_length=len(PAYLOAD) - 1), 1600)

    with pytest.raises(EnvelopeRefused, match="too-large"):
        check.feed(ENVELOPE[:PREAMBLE])


def test_a_context_may_leave_things_open() -> None:
    context = Context(run="r", round=3, kind="update", project="p", seq=1, max_length=len(PAYLOAD))

    assert verify_envelope_signature([ENVELOPE], context, 1600).seq == 1


# --- headers ------------------------------------------------------------------------------------


def with_header(header: bytes) -> bytes:
    return preamble(header, []) + ENVELOPE[PREAMBLE:]


@pytest.mark.parametrize("change", [{"suite": 0}, {"suite": 2}, {"version": 0}, {"version": 2}])
def test_a_suite_we_do_not_know_is_refused_even_if_signed(change: dict[str, int]) -> None:
    header = pack(replace(HEADER, length=len(PAYLOAD), **change))

    assert refusal(with_header(header)) == "unknown-suite"


@pytest.mark.parametrize(
    "change",
    [
        {"length": -1},
        {"length": 2**48 + 1},
        {"sender": b"short"},
        {"audience": b"x"},
        {"run": "r" * 129},
        {"round": -1},
    ],
)
def test_a_header_out_of_bounds_is_refused(change: dict[str, object]) -> None:
    assert refusal(with_header(pack(replace(HEADER, **change)))) == "malformed"


def test_a_header_in_another_encoding_is_refused() -> None:
    with pytest.raises(EnvelopeRefused, match="canonical"):
        read_header(pack(HEADER).replace(b"\xa6update", b"\xd9\x06update"))


@pytest.mark.parametrize(("header_length", "wraps"), [(0, 1), (4097, 1), (65535, 1), (10, MAX_WRAPS + 1), (10, 65535)])
def test_sizes_are_bounded_before_anything_is_kept(header_length: int, wraps: int) -> None:
    start = struct.pack(">8sHH", b"grid-env", header_length, wraps)

    check = EnvelopeCheck(AWAITED, 1600)
    with pytest.raises(EnvelopeRefused, match="malformed"):
        check.feed(start + bytes(100_000))

    assert len(check._start) == START


def test_a_preamble_stays_under_a_mebibyte() -> None:
    largest = preamble(bytes(4096), [bytes(WRAP)] * MAX_WRAPS)

    assert len(largest) == preamble_size(MAX_WRAPS, bytes(4096)) < 2**20
    for header, wraps in ((bytes(4097), []), (b"h", [bytes(WRAP)] * (MAX_WRAPS + 1)), (b"h", [bytes(WRAP - 1)])):
        with pytest.raises(ValueError, match="envelope has"):
            preamble(header, wraps)


@given(st.integers(0, 100_000))
def test_sizes_are_known_before_sealing(length: int) -> None:
    header = replace(HEADER, length=length)

    envelope = seal_bytes(ALICE, HEADER, bytes(length), [PREKEY])

    assert len(envelope) == preamble_size(1, pack(header)) + body_size(length) + 64
