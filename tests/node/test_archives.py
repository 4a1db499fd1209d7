"""Zip archives of strangers: what zip tools write is read, every trick is refused before a byte is unpacked."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from grid.node.archives import ENTRIES, Archive
from grid.wire.problems import UpdateRefused

LIMIT = 8 << 20
RESULT = b'{"taskId": "t"}'
NUMBERS = bytes(range(256)) * 64


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return target.getvalue()


HONEST = zipped(("j.tioresult/", b""), ("j.tioresult/result.json", RESULT), ("j.tioresult/checkpoints/model", NUMBERS))


def linked() -> bytes:
    info = zipfile.ZipInfo("result.json")
    info.external_attr = 0o120777 << 16
    return zipped((info, b"/etc/passwd"))


def with_flag(data: bytes, bit: int) -> bytes:
    """The archive, each entry's flags with one more bit, in both places."""
    changed = bytearray(data)
    for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = changed.find(magic)
        (flags,) = struct.unpack_from("<H", changed, place + at)
        struct.pack_into("<H", changed, place + at, flags | bit)
    return bytes(changed)


def said_to_be(data: bytes, size: int) -> bytes:
    """The archive, its only entry said to be of another size once unpacked."""
    changed = bytearray(data)
    struct.pack_into("<L", changed, changed.find(b"PK\x01\x02") + 24, size)
    return bytes(changed)


def twice_one_place() -> bytes:
    """Two entries of the directory that are the same bytes: each of them would be unpacked."""
    data = bytearray(zipped(("a", NUMBERS), ("b", NUMBERS)))
    second = data.rfind(b"PK\x01\x02")
    struct.pack_into("<L", data, second + 42, 0)
    return bytes(data)


def read_all(path: Path) -> dict[str, bytes]:
    with Archive(path, LIMIT) as archive:
        return {name: b"".join(archive.blocks(name)) for name in archive.names}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_what_zip_tools_write_is_read(tmp_path: Path, method: int) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(zipped(("j/result.json", RESULT), ("j/model", NUMBERS), method=method))

    assert read_all(path) == {"j/result.json": RESULT, "j/model": NUMBERS}


def test_folders_are_no_files(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(HONEST)

    with Archive(path, LIMIT) as archive:
        assert archive.names == ("j.tioresult/result.json", "j.tioresult/checkpoints/model")
        assert archive.read("j.tioresult/result.json", 100) == RESULT
        with pytest.raises(UpdateRefused, match="more than 10 bytes"):
            archive.read("j.tioresult/result.json", 10)
        with pytest.raises(UpdateRefused, match="has 2 models"):
            archive.the_one("models", *archive.names)
        with pytest.raises(UpdateRefused, match="has no models"):
            archive.the_one("models")


TRICKS: dict[str, Callable[[], bytes]] = {
    "up": lambda: zipped(("../evil", b"x")),
    "up inside": lambda: zipped(("j/../../evil", b"x")),
    "absolute": lambda: zipped(("/etc/evil", b"x")),
    "drive": lambda: zipped(("C:evil", b"x")),
    "backslash": lambda: zipped(("..\\evil", b"x")),
    "line break": lambda: zipped(("a\nb", b"x")),
    "link": linked,
    "bomb": lambda: zipped(("zeros", bytes(7 << 20))),
    "too long": lambda: zipped(*[(f"{n}", bytes(3 << 20)) for n in range(3)], method=zipfile.ZIP_STORED),
    "too many": lambda: zipped(*[(f"{n}", b"") for n in range(ENTRIES + 1)]),
    "encrypted": lambda: with_flag(zipped(("a", NUMBERS)), 0x1),
    "another method": lambda: zipped(("a", NUMBERS), method=zipfile.ZIP_LZMA),
    "one place twice": twice_one_place,
    "longer than said": lambda: said_to_be(zipped(("a", NUMBERS)), 100),
    "shorter than said": lambda: said_to_be(zipped(("a", NUMBERS)), len(NUMBERS) + 100),
    "something before": lambda: b"#!/bin/sh\n" + HONEST,
    "something behind": lambda: HONEST + b"more",
    "cut off": lambda: HONEST[:-1],
    "broken": lambda: zipped(("a", NUMBERS), method=zipfile.ZIP_STORED).replace(NUMBERS[:8], b"x" * 8),
    "tar": lambda: b"ustar" * 100,
    "nothing": lambda: b"",
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_are_refused(tmp_path: Path, trick: str) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(TRICKS[trick]())

    with pytest.raises(UpdateRefused):
        read_all(path)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with pytest.warns(UserWarning, match="Duplicate"):
        path.write_bytes(zipped(("a", b"1"), ("a", b"2")))

    with pytest.raises(UpdateRefused, match="two entries"):
        read_all(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(HONEST) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_whatever_is_changed_in_an_archive_it_is_read_within_its_limit_or_refused(
    tmp_path: Path, changes: list[tuple[int, int]]
) -> None:
    data = bytearray(HONEST)
    for place, value in changes:
        data[place] = value
    path = tmp_path / "a.zip"
    path.write_bytes(data)

    try:
        found = read_all(path)
    except UpdateRefused:
        return
    assert sum(map(len, found.values())) <= LIMIT
    assert all(".." not in name and not name.startswith("/") for name in found)
