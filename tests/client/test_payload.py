"""Payloads in sealed envelopes, in pieces of any size."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.client.payload import (
    BLOCK,
    TensorSink,
    gather,
    once,
    open_message,
    open_tensors,
    opened,
    pieces,
    read_prekey,
    seal_message,
    sealed,
    sealed_size,
    streamed,
)
from grid.crypto.envelope import Context, Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import Prekey, publish
from grid.crypto.sealing import Opener
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.wire.problems import BadRequest, BadSignature, EnvelopeRefused, PrekeyUnknown, Replayed, TensorsRefused
from grid.wire.runs import Report

NOW = 1_800_000_000.0
ANN, BOB = Identity.from_seed(b"a" * 32), Identity.from_seed(b"b" * 32)
PREKEY = Prekey.generate()
PUBLISHED = publish(BOB, PREKEY, NOW, NOW + 60)
CONTEXT = Context(run="r", round=3, kind="update", sender=ANN.public, direct=True)
LAYOUT = Layout([TensorSpec("weight", "F32", (5, 3)), TensorSpec("steps", "I64", (1,))])
FILE = header_bytes(LAYOUT, {"report": "yes"}) + bytes(range(LAYOUT.size))


def header(length: int = 0, **changes: object) -> Header:
    usual = {"sender": ANN.public, "audience": BOB.public, "kind": "update", "run": "r", "round": 3}
    times = {"created": int(NOW), "expires": int(NOW + 60), "length": length}
    return Header(**(usual | times | changes))  # type: ignore[arg-type]


def envelope(payload: bytes) -> bytes:
    return b"".join(sealed(ANN, header(len(payload)), [payload], read_prekey(PUBLISHED, BOB.public, NOW)))


def opener() -> Opener:
    return Opener(BOB.public, {PREKEY.id: PREKEY}.get, CONTEXT, NOW)


def cut(data: bytes, at: Iterable[int]) -> list[bytes]:
    """The data in pieces, some of them empty."""
    places = [0, *sorted(min(place, len(data)) for place in at), len(data)]
    return [data[begin:end] for begin, end in pairwise(places)]


async def stream(*blocks: bytes) -> AsyncIterator[bytes]:
    for block in blocks:
        yield block


CUTS = st.lists(st.integers(0, 5000), max_size=12)


@given(CUTS)
def test_a_file_of_tensors_comes_out_the_same_in_any_pieces(at: list[int]) -> None:
    into = bytearray(LAYOUT.size)
    sink = TensorSink(LAYOUT, memoryview(into))

    for piece in cut(FILE, at):
        sink.write(memoryview(piece))

    assert sink.finish() == {"report": "yes"}
    assert into == FILE[-LAYOUT.size :]


@given(CUTS, st.integers(0, len(FILE) - 1))
def test_a_file_that_ends_early_is_refused_wherever_it_ends(at: list[int], end: int) -> None:
    sink = TensorSink(LAYOUT, memoryview(bytearray(LAYOUT.size)))

    for piece in cut(FILE[:end], at):
        sink.write(memoryview(piece))

    with pytest.raises(TensorsRefused):
        sink.finish()


@given(CUTS, st.binary(max_size=200))
def test_bytes_that_are_no_file_of_these_tensors_are_refused(at: list[int], data: bytes) -> None:
    sink = TensorSink(LAYOUT, memoryview(bytearray(LAYOUT.size)))

    for piece in cut(data, at):
        sink.write(memoryview(piece))

    with pytest.raises(TensorsRefused):
        sink.finish()


@given(CUTS)
def test_not_one_byte_too_many_is_written(at: list[int]) -> None:
    room = bytearray(LAYOUT.size + 1)
    sink = TensorSink(LAYOUT, memoryview(room))

    for piece in cut(FILE + b"\xff", at):
        sink.write(memoryview(piece))

    with pytest.raises(TensorsRefused, match="more than the declared"):
        sink.finish()
    assert room[-1] == 0


@given(st.lists(st.integers(0, 3 * BLOCK), max_size=4))
def test_pieces_are_the_parts_and_none_is_larger_than_a_block(sizes: list[int]) -> None:
    made = list(pieces(bytes(size) for size in sizes))

    assert sum(map(len, made)) == sum(sizes)
    assert all(0 < len(piece) <= BLOCK for piece in made)


@given(CUTS)
async def test_what_was_sealed_opens_to_the_same_in_any_pieces(at: list[int]) -> None:
    into = bytearray(LAYOUT.size)

    metadata = await open_tensors(opener(), stream(*cut(envelope(FILE), at)), LAYOUT, memoryview(into))

    assert (metadata, into) == ({"report": "yes"}, FILE[-LAYOUT.size :])


@pytest.mark.parametrize("length", [0, 1, 16_383, 16_384, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
async def test_the_length_of_an_envelope_is_known_before_it_is_made(length: int) -> None:
    payload = bytes(length)
    made = envelope(payload)

    assert len(made) == sealed_size(header(length))
    assert b"".join([bytes(piece) async for piece in opened(opener(), once(made))]) == payload


@given(st.integers(0, len(envelope(FILE)) - 1), st.integers(0, 7))
async def test_one_bit_anywhere_and_nothing_of_it_is_believed(at: int, bit: int) -> None:
    made = bytearray(envelope(FILE))
    made[at] ^= 1 << bit

    with pytest.raises((EnvelopeRefused, PrekeyUnknown)):
        await open_tensors(opener(), once(bytes(made)), LAYOUT, memoryview(bytearray(LAYOUT.size)))


async def test_tensors_of_another_layout_are_refused_once_it_is_known_who_sent_them() -> None:
    made = bytearray(envelope(header_bytes(Layout([TensorSpec("w", "F32", (2,))])) + bytes(8)))
    into = bytearray(LAYOUT.size)

    with pytest.raises(TensorsRefused):
        await open_tensors(opener(), once(bytes(made)), LAYOUT, memoryview(into))
    made[-1] ^= 1
    with pytest.raises(EnvelopeRefused):
        await open_tensors(opener(), once(bytes(made)), LAYOUT, memoryview(into))
    assert into == bytes(LAYOUT.size)


def test_a_small_message_comes_back_as_it_went() -> None:
    prekey = read_prekey(PUBLISHED, BOB.public, NOW)
    report = Report("failed", reason="no memory")

    made = seal_message(ANN, header(), report, prekey)

    assert open_message(made, Report, BOB.public, {PREKEY.id: PREKEY}.get, CONTEXT, NOW) == report
    with pytest.raises(PrekeyUnknown):
        open_message(made, Report, BOB.public, lambda _: None, CONTEXT, NOW)
    with pytest.raises(EnvelopeRefused):
        open_message(made, Report, BOB.public, {PREKEY.id: PREKEY}.get, CONTEXT, NOW + 61)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x90", b"\x91" * 5000, b"\x81\xa6status\xa5maybe"])
def test_a_payload_that_is_no_message_is_a_bad_request(payload: bytes) -> None:
    with pytest.raises(BadRequest, match="not a Report"):
        open_message(envelope(payload), Report, BOB.public, {PREKEY.id: PREKEY}.get, CONTEXT, NOW)


def test_a_prekey_is_its_owners_and_of_its_time() -> None:
    with pytest.raises(BadSignature):
        read_prekey(PUBLISHED, ANN.public, NOW)
    with pytest.raises(Replayed):
        read_prekey(PUBLISHED, BOB.public, NOW + 3600)
    with pytest.raises((BadRequest, BadSignature)):
        read_prekey(b"x", BOB.public, NOW)


@given(st.lists(st.binary(max_size=20)), st.integers(0, 100))
async def test_what_is_gathered_has_a_limit(blocks: list[bytes], limit: int) -> None:
    whole = b"".join(blocks)

    if len(whole) <= limit:
        assert await gather(streamed(blocks), limit) == whole
    else:
        with pytest.raises(BadRequest, match=f"longer than {limit} bytes"):
            await gather(streamed(blocks), limit)
