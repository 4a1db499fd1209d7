"""Zip archives of strangers: looked at before anything is unpacked, and unpacked one file at a time, counted.

Nothing is written where an archive says: its reader asks for the bytes of a name. Refused are archives that are not
what zip tools write: with paths that lead out, links, two entries of one name or one place, encryption, methods but
stored and deflated, more entries or bytes than were agreed, or bytes that blow up.
"""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from grid.wire.problems import UpdateRefused

ENTRIES = 64
"""Files and folders in one archive."""
DIRECTORY = 64 * 1024
"""Bytes of an archive's directory, which is read as a whole."""
RATIO = 200
"""Bytes that one byte of an archive may become, beyond the first `SMALL` ones of a file."""
SMALL = 1 << 20
BLOCK = 256 * 1024

_END = struct.Struct("<4s4H2LH")
_MAGIC = b"PK\x05\x06"


class Archive:
    """An archive in a file whose files have at most `limit` bytes together. Used as a block, in one thread.

    Raises:
        UpdateRefused: it is none, or one as no tool writes it.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit = path, limit
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Archive:
        self._file = file = self._path.open("rb")
        try:
            _check_end(file)
            self._zip = zipfile.ZipFile(file)
            self._entries = _checked(self._zip.infolist(), self._limit)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, UnicodeError, OSError) as error:
            file.close()
            raise UpdateRefused(f"this is no zip archive: {error}") from None
        except UpdateRefused:
            file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        if self._file is not None:
            self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Its files, by their whole names."""
        return tuple(self._entries)

    def the_one(self, what: str, *names: str) -> str:
        """The name of `names`, which must be exactly one. Raises UpdateRefused."""
        if len(names) != 1:
            raise UpdateRefused(f"the archive has {len(names) or 'no'} {what}; one is expected")
        return names[0]

    def read(self, name: str, most: int) -> bytes:
        """A small file as a whole. Raises UpdateRefused."""
        if self._entries[name].file_size > most:
            raise UpdateRefused(f"{name} has more than {most} bytes")
        return b"".join(self.blocks(name))

    def blocks(self, name: str) -> Iterator[bytes]:
        """A file in blocks, never more of it than the directory says. Raises UpdateRefused."""
        entry, left = self._entries[name], self._entries[name].file_size
        try:
            with self._zip.open(entry) as file:
                while block := file.read(BLOCK):
                    left -= len(block)
                    if left < 0:
                        raise UpdateRefused(f"{name} is longer than the archive says")
                    yield block
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
            raise UpdateRefused(f"{name} cannot be unpacked: {error}") from None
        if left:
            raise UpdateRefused(f"{name} is shorter than the archive says")


def _check_end(file: IO[bytes]) -> None:
    """What stands at the end of an archive, before its directory is read into memory: it must be a small one."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _END.size))
    tail = file.read(_END.size)
    if len(tail) < _END.size or not tail.startswith(_MAGIC):
        raise UpdateRefused("this is no zip archive, or one with something behind its end")
    _, disk, first, here, entries, length, begin, _ = _END.unpack(tail)
    if disk or first or here != entries or entries > ENTRIES or length > DIRECTORY:
        raise UpdateRefused(f"an archive has at most {ENTRIES} entries, all in one file")
    if begin + length + _END.size != size:
        raise UpdateRefused("there is something before or between the parts of this archive")


def _checked(entries: list[zipfile.ZipInfo], limit: int) -> dict[str, zipfile.ZipInfo]:
    """The files of a directory, if all entries of it are as they should be. Raises UpdateRefused."""
    found: dict[str, zipfile.ZipInfo] = {}
    places: set[int] = set()
    for entry in entries:
        _check_entry(entry)
        if entry.filename in found or entry.header_offset in places:
            raise UpdateRefused(f"two entries of the archive are {entry.filename!r}, or lie in one place")
        places.add(entry.header_offset)
        found[entry.filename] = entry
    if sum(entry.file_size for entry in entries) > limit:
        raise UpdateRefused(f"unpacked, the archive has more than {limit} bytes")
    return {name: entry for name, entry in found.items() if not entry.is_dir()}


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name, path = entry.orig_filename, PurePosixPath(entry.filename)
    if name != entry.filename or not name.isprintable() or "\\" in name or ":" in name or len(name) > 512:
        raise UpdateRefused(f"an entry of the archive cannot be named {name[:80]!r}")
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise UpdateRefused(f"{name[:80]!r} leads out of the archive")
    mode = entry.external_attr >> 16
    if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise UpdateRefused(f"{name[:80]!r} is no plain file")
    if entry.flag_bits & 0x1 or entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
        raise UpdateRefused(f"{name[:80]!r} is encrypted, or packed in another way than stored or deflated")
    if entry.file_size > SMALL + RATIO * entry.compress_size:
        raise UpdateRefused(f"{name[:80]!r} would become more than {RATIO} times as long")
