"""Parts of a stream, as headers."""

from __future__ import annotations

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from grid.wire.problems import RangeUnsatisfiable
from grid.wire.ranges import Span, asked, content_range, given, onwards


@pytest.mark.parametrize(
    ("value", "span"),
    [
        ("bytes=0-", Span(0, 100)),
        ("bytes=99-", Span(99, 100)),
        ("bytes=10-19", Span(10, 20)),
        ("bytes=10-1000", Span(10, 100)),
        ("Bytes=-30", Span(70, 100)),
        ("bytes=-300", Span(0, 100)),
    ],
)
def test_a_range_is_a_part(value: str, span: Span) -> None:
    assert asked(value, 100) == span


@pytest.mark.parametrize(
    "value", ["", "bytes=-", "bytes=1-2,4-5", "lines=1-", "bytes=5-2", "bytes=\u0661-", "bytes 1-"]
)
def test_what_is_no_range_asks_for_all(value: str) -> None:
    assert asked(value, 100) is None


@pytest.mark.parametrize("value", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_behind_the_end_is_refused(value: str) -> None:
    with pytest.raises(RangeUnsatisfiable):
        asked(value, 100)


@for_all(st.text(max_size=40), st.integers(0, 10**12))
def test_no_words_ask_for_more_than_is_there(value: str, size: int) -> None:
    for text in (value, f"bytes={value}"):
        try:
            span = asked(text, size)
        except RangeUnsatisfiable:
            continue
        assert span is None or 0 <= span.begin < span.end <= size


@for_all(st.integers(0, 10**12), st.integers(1, 10**12))
def test_what_is_asked_for_is_what_is_said_to_be_given(begin: int, rest: int) -> None:
    span = Span(begin, begin + rest)

    assert asked(onwards(begin), begin + rest) == span
    assert given(content_range(span, begin + rest)) == (span, begin + rest)


@for_all(st.text(max_size=60))
def test_what_a_server_says_holds_together_or_is_nothing(value: str) -> None:
    for text in (value, f"bytes {value}"):
        if (said := given(text)) is not None:
            (begin, end), size = said
            assert 0 <= begin < end <= size
