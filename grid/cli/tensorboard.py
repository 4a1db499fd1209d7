"""Curves as TensorBoard reads them: event files, written without TensorBoard.

A file is a row of records (TFRecord): length (8 bytes, little-endian), masked CRC-32C of it (4), an `Event`
message (protocol buffers), masked CRC-32C of that (4). Of `Event` we need wall_time (1, double), step (2, varint),
file_version (3) and summary (5); of `Summary` a value (1) with tag (1) and simple_value (2, float).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from grid.client.run import RoundLine

POLYNOMIAL = 0x82F63B78
"""CRC-32C (Castagnoli), reflected: RFC 3720, appendix B.4."""

VERSION = b"brain.Event:2"


def _row(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(map(_row, range(256)))


def crc32c(data: bytes) -> int:
    """The checksum of `data`."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[crc & 0xFF ^ byte]
    return crc ^ 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """One record of an event file."""
    length = struct.pack("<Q", len(data))
    return length + _masked(length) + data + _masked(data)


def _masked(data: bytes) -> bytes:
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def scalars(at: float, step: int, values: Mapping[str, float]) -> bytes:
    """An `Event` with one number for each tag; `at` in UTC seconds."""
    summary = b"".join(
        _bytes(1, _bytes(1, tag.encode()) + struct.pack("<Bf", 2 << 3 | 5, value)) for tag, value in values.items()
    )
    return _time(at) + bytes([2 << 3]) + _varint(step) + _bytes(5, summary)


def _time(at: float) -> bytes:
    return struct.pack("<Bd", 1 << 3 | 1, at)


def _bytes(field: int, data: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def export(folder: Path, rounds: Iterable[RoundLine], begun: float) -> list[Path]:
    """Write the history of a run into `folder`: the means in `all`, and what each node measured in one of its own.

    The files are written anew, so that a run can be exported while it goes on. `begun` in UTC seconds.
    """
    courses: dict[str, list[bytes]] = {}
    at = begun
    for line in rounds:
        at += line.seconds
        counts = {"nodes": float(line.accepted), "examples": float(line.examples), "seconds": line.seconds}
        told = {**_tagged("evaluation", line.metrics), **_tagged("round", {**counts, "bytes": float(line.bytes)})}
        courses.setdefault("all", []).append(scalars(at, line.round, told))
        for node, metrics in line.by_node.items():
            event = scalars(at, line.round, _tagged("evaluation", metrics))
            courses.setdefault(f"node {node.replace(':', '-')}", []).append(event)
    return [_write(folder / name, events, begun) for name, events in sorted(courses.items())]


def _tagged(group: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{group}/{name}": value for name, value in values.items()}


def _write(folder: Path, events: list[bytes], begun: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"events.out.tfevents.{int(begun)}.grid"
    first = _time(begun) + _bytes(3, VERSION)
    file.write_bytes(b"".join(map(record, [first, *events])))
    return file
