from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grid.learning.tensors import ITEM_BYTES, MAX_HEADER, Layout, TensorSpec, header_bytes, read_header
from grid.wire.problems import TensorsRefused


def framed(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(dtype: Any = "F32", shape: Any = (2,), begin: Any = 0, end: Any = 8) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


specs = st.builds(
    TensorSpec,
    name=st.text("abc.", min_size=1, max_size=8),
    dtype=st.sampled_from(sorted(ITEM_BYTES)),
    shape=st.lists(st.integers(0, 9), max_size=4).map(tuple),
)


@given(st.lists(specs, max_size=6, unique_by=lambda spec: spec.name), st.dictionaries(st.text(), st.text(), max_size=3))
def test_what_is_written_is_read_again(tensors: list[TensorSpec], metadata: dict[str, str]) -> None:
    layout = Layout(tensors)
    try:
        header = header_bytes(layout, metadata)
    except UnicodeEncodeError:  # lone surrogates are no text
        return

    assert read_header(header, total=len(header) + layout.size) == (layout, metadata, len(header))
    assert len(header) % 8 == 0
    assert all(slot.begin % ITEM_BYTES[slot.spec.dtype] == 0 for slot in layout.slots)


@given(st.binary(max_size=200) | st.binary(max_size=120).map(framed))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(TensorsRefused):
        read_header(data, total=len(data))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@settings(max_examples=200)
@given(st.dictionaries(st.text(max_size=4), st.fixed_dictionaries(
    {"dtype": st.sampled_from(["F32", "U8"]) | json_values, "shape": json_values, "data_offsets": json_values}
) | json_values, max_size=3))  # fmt: skip
def test_any_header_is_read_or_refused(header: dict[str, Any]) -> None:
    try:
        layout, _, offset = read_header(framed(header))
    except TensorsRefused:
        return
    assert sum(spec.size for spec in layout.specs) == layout.size
    assert offset <= MAX_HEADER + 8


@pytest.mark.parametrize(
    "header",
    {
        "overlap": {"a": entry(), "b": entry(begin=4, end=12)},
        "hole": {"a": entry(), "b": entry(begin=12, end=20)},
        "does not begin at 0": {"a": entry(begin=4, end=12)},
        "size is not the shape's": {"a": entry(end=12)},
        "end before begin": {"a": entry(begin=8, end=0)},
        "unknown dtype": {"a": entry("F8_E4M3")},
        "dtype is a list": {"a": entry(["F32"])},
        "negative size": {"a": entry(shape=(-2,))},
        "fractional size": {"a": entry(shape=(2.0,))},
        "boolean size": {"a": entry(shape=(True,), end=4)},
        "rank 9": {"a": entry(shape=(1,) * 9, end=4)},
        "product overflows": {"a": entry(shape=(1 << 40, 1 << 40), end=0)},
        "narrow before wide": {"a": entry("U8", (4,), 0, 4), "b": entry(begin=4, end=12)},
        "unknown field": {"a": entry() | {"x": 1}},
        "missing field": {"a": {"dtype": "F32", "shape": [2]}},
        "tensor is a number": {"a": 1},
        "no name": {"": entry()},
        "metadata holds a number": {"__metadata__": {"a": 1}},
        "not an object": [1],
        "key twice": b'{"a":1,"a":{"dtype":"I8","shape":[],"data_offsets":[0,1]}}',
        "lone surrogate": b'{"__metadata__":{"a":"\\ud800"}}',
        "dtype twice": b'{"a":{"dtype":"U8","dtype":"I8","shape":[1],"data_offsets":[0,1]}}',
        "NaN": b'{"a":{"dtype":"U8","shape":[NaN],"data_offsets":[0,1]}}',
        "not UTF-8": b'{"\xff":1}',
        "nested deeply": b"[" * 100_000,
        "giant number": b'{"a":{"dtype":"U8","shape":[' + b"9" * 9000 + b'],"data_offsets":[0,1]}}',
        "4097 tensors": {str(n): entry("U8", (0,), 0, 0) for n in range(4097)},
    }.items(),
    ids=lambda item: item[0],
)
def test_a_header_with_two_readings_or_out_of_bounds_is_refused(header: tuple[str, object]) -> None:
    with pytest.raises(TensorsRefused):
        read_header(framed(header[1]))


def test_a_length_bomb_is_refused_before_anything_is_read() -> None:
    for length in (0, 1, MAX_HEADER + 1, 1 << 60):
        with pytest.raises(TensorsRefused, match="header of"):
            read_header(length.to_bytes(8, "little") + b"{}")


def test_data_too_short_or_too_long_is_refused() -> None:
    data = framed({"a": entry()}, b"12345678")
    assert read_header(data, total=len(data))[0].size == 8
    for wrong in (data[:-1], data + b"x"):
        with pytest.raises(TensorsRefused, match="announced"):
            read_header(wrong, total=len(wrong))


@pytest.mark.parametrize(
    ("other", "word"),
    [
        ([], "'a' is missing"),
        ([TensorSpec("a", "F32", (2,)), TensorSpec("b", "F32", ())], "not declared"),
        ([TensorSpec("a", "F32", (3,))], r"F32\[3\]"),
        ([TensorSpec("a", "I32", (2,))], r"I32\[2\]"),
    ],
)
def test_tensors_other_than_declared_are_refused_by_name(other: list[TensorSpec], word: str) -> None:
    with pytest.raises(TensorsRefused, match=word):
        Layout(other).require(Layout([TensorSpec("a", "F32", (2,))]))


def test_another_order_than_declared_is_refused() -> None:
    one, two = TensorSpec("a", "F32", (2,)), TensorSpec("b", "F32", (2,))
    with pytest.raises(TensorsRefused, match="order"):
        Layout([two, one]).require(Layout([one, two]))
