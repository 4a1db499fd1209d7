"""Event files, read by a reader of their own."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.cli.tensorboard import crc32c, export, record, scalars
from grid.client.run import RoundLine


def records(data: bytes) -> list[bytes]:
    """The messages of an event file, their checksums proved."""
    found = []
    while data:
        length, proof = struct.unpack_from("<QI", data)
        message, (sealed,) = data[12 : 12 + length], struct.unpack_from("<I", data, 12 + length)
        assert (proof, sealed) == (masked(data[:8]), masked(message))
        found.append(message)
        data = data[16 + length :]
    return found


def masked(data: bytes) -> int:
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def fields(message: bytes) -> list[tuple[int, Any]]:
    """A protocol buffers message, one level of it."""
    found: list[tuple[int, Any]] = []
    while message:
        key, message = message[0], message[1:]
        if key & 7 in {1, 5}:
            size, form = (8, "<d") if key & 7 == 1 else (4, "<f")
            found.append((key >> 3, struct.unpack(form, message[:size])[0]))
            message = message[size:]
            continue
        number = shift = 0
        while True:
            byte, message = message[0], message[1:]
            number |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        if key & 7 == 2:
            found.append((key >> 3, message[:number]))
            message = message[number:]
        else:
            found.append((key >> 3, number))
    return found


def read(message: bytes) -> tuple[float, int, dict[str, float]]:
    """Time, step and numbers of an event."""
    event = dict(fields(message))
    values = [dict(fields(value)) for _, value in fields(event[5])]
    return event[1], event[2], {value[1].decode(): value[2] for value in values}


@pytest.mark.parametrize(
    ("data", "checksum"),
    [(bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E), (b"", 0)],
)
def test_the_checksums_of_rfc_3720(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


@given(
    st.floats(0, 4e9),
    st.integers(0, 100_000),
    st.dictionaries(st.text(min_size=1, max_size=200), st.floats(width=32, allow_nan=False), max_size=5),
)
def test_what_is_written_is_read(at: float, step: int, values: dict[str, float]) -> None:
    assert read(scalars(at, step, values)) == (at, step, values)
    assert records(record(scalars(at, step, values)) * 2) == [scalars(at, step, values)] * 2


def test_a_run_becomes_a_file_for_the_means_and_one_for_each_node(tmp_path: Path) -> None:
    lines = [
        RoundLine(1, 2, 20, 0.5, 800, {}, {"loss": 0.5}, {"ann": {"loss": 0.25}, "bob": {"loss": 0.75}}),
        RoundLine(2, 1, 10, 1.5, 400, {"bob": "gone"}, {"loss": 0.25}, {"ann": {"loss": 0.25}}),
        RoundLine(3, 1, 10, 1.0, 400),
    ]

    for _ in range(2):  # again, while the run goes on
        files = export(tmp_path, lines, 100.0)

    assert [file.parent.name for file in files] == ["all", "node ann", "node bob"]
    first, *events = records(files[0].read_bytes())
    assert dict(fields(first))[3] == b"brain.Event:2"
    counts = {"round/nodes": 2.0, "round/examples": 20.0, "round/seconds": 0.5, "round/bytes": 800.0}
    assert read(events[0]) == (100.5, 1, {"evaluation/loss": 0.5, **counts})
    assert [read(event)[:2] for event in events] == [(100.5, 1), (102.0, 2), (103.0, 3)]
    assert [read(event)[2] for event in records(files[2].read_bytes())[1:]] == [{"evaluation/loss": 0.75}]
