"""A value has one encoding; any other bytes are refused."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.encoding import Record, b64, pack, unb64, unpack
from grid.crypto.errors import Malformed


class Sample(Record, frozen=True, kw_only=True):
    name: str = ""
    size: int = 0


@given(st.text(), st.integers(-(2**63), 2**64 - 1))
def test_a_record_comes_back_as_it_went(name: str, size: int) -> None:
    sample = Sample(name=name, size=size)

    assert unpack(pack(sample), Sample) == sample


@given(st.binary())
def test_arbitrary_bytes_are_a_canonical_record_or_refused(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert pack(unpack(data, Sample)) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x92\xa1a\xcd\x00\x01",  # the number 1 in more bytes than it needs
        b"\x92\xd9\x01a\x01",  # so with a text
        b"\x91\xa1a",  # a default left out
        b"\x93\xa1a\x01\x01",  # a field too many
        b"\x92\xa1a\x01\x00",  # something after the end
        b"\x92\xa1\xff\x01",  # not UTF-8
        msgspec.msgpack.encode({"name": "a", "size": 1}),
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
    ],
)
def test_another_encoding_of_a_record_is_refused(data: bytes) -> None:
    with pytest.raises(Malformed):
        unpack(data, Sample)


@given(st.binary(max_size=40))
def test_base64url_comes_back_as_it_went(data: bytes) -> None:
    assert unb64(b64(data), len(data)) == data


@given(st.text(max_size=6))
def test_arbitrary_text_is_base64url_or_refused(text: str) -> None:
    with contextlib.suppress(Malformed):
        assert b64(unb64(text, 3)) == text
