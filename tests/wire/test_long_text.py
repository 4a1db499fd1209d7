from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.wire.long_text import SHORT, LongText
from grid.wire.problems import BadRequest, TooLarge


def read(raw: bytes, cuts: list[int]) -> tuple[bytes, dict[str, object]]:
    text, got, begin = LongText("diff"), b"", 0
    for end in [*sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]:
        got += text.feed(raw[begin:end])
        begin = end
    return got, text.end()


@given(
    data=st.binary(max_size=300),
    before=st.dictionaries(st.text(max_size=5).filter(lambda key: key != "diff"), st.text(max_size=20), max_size=3),
    slashes=st.booleans(),
    cuts=st.lists(st.integers(0, 2000), max_size=6),
)
def test_it_is_read_in_whatever_pieces_it_comes(
    data: bytes, before: dict[str, str], slashes: bool, cuts: list[int]
) -> None:
    raw = json.dumps({**before, "diff": base64.b64encode(data).decode(), "after": 1}).encode()
    if slashes:
        raw = raw.replace(b"/", b"\\/") if b"/" not in json.dumps(before).encode() else raw

    got, said = read(raw, cuts)

    assert got == data
    assert said == {**before, "after": 1}


@given(raw=st.binary(max_size=200), cuts=st.lists(st.integers(0, 300), max_size=4))
def test_whatever_else_comes_is_refused_and_nothing_else_happens(raw: bytes, cuts: list[int]) -> None:
    with pytest.raises((BadRequest, TooLarge)):
        read(raw, cuts)


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"diff": 1}',
        b'{"diff": "AAAA"',
        b'{"diff": "AA"}',
        b'{"diff": "A\\"AA"}',
        b'{"diff": "AA=="} {}',
        b'{"of": {"diff": "AAAA"}}',
        b'["diff", {"diff": "AAAA"}]',
        b'{"diff": "AA\\u0041A"}',
    ],
)
def test_what_has_no_such_string_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        read(raw, [])


def test_what_stands_before_it_is_known_when_it_begins() -> None:
    text = LongText("diff")

    assert text.feed(b'{"worker_id": "a", "diff": "AAAA') == b""
    assert text.begun
    assert text.before() == {"worker_id": "a", "diff": ""}


def test_all_else_is_short() -> None:
    with pytest.raises(TooLarge):
        LongText("diff").feed(b'{"x": "' + b"a" * SHORT)
