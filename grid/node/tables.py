"""Tables as they lie in files: named columns, read block by block, twice if need be."""

from __future__ import annotations

import csv
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol, TextIO

from grid.wire.problems import DatasetRefused

MAX_COLUMNS = 16_384
MAX_NAME = 256
MAX_LINE = 16 * 1024 * 1024
BLOCK_CELLS = 1 << 13  # stays in the processor's cache
_DELIMITERS = ",;\t|"
_NUMBER = re.compile(r"[+-]?[\d.]+(e[+-]?\d+)?\Z", re.IGNORECASE)

Cells = Sequence[str] | Sequence[float]
"""Some values of one column: all text, or all numbers (NaN where there is none)."""


Teller = Callable[[int], Callable[[int], None]]
"""Is told how much there is to read, and answers with whom to tell how much was read, in each pass anew."""


class Block(NamedTuple):
    """Some rows, column by column; `places` says where each row stands in its file."""

    places: Sequence[int]
    columns: Sequence[Cells]


class Table(Protocol):
    """Columns with names. `unit` is what places count: lines, rows."""

    unit: str
    names: tuple[str, ...]

    def blocks(self) -> Iterator[Block]:
        """All rows from the beginning, at each call anew."""


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """The names of a file's columns, if each says which one is meant.

    Raises:
        DatasetRefused: a name is empty, too long or stands twice, or there are too many.
    """
    if len(names) > MAX_COLUMNS:
        raise DatasetRefused(f"{len(names)} columns; at most {MAX_COLUMNS} are taken")
    for position, name in enumerate(names):
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise DatasetRefused(f"column {position + 1} has no usable name: {name[:40]!r}")
    for name, count in Counter(names).items():
        if count > 1:
            raise DatasetRefused(f"{count} columns are named {name!r}")
    return tuple(names)


def kept_names(
    names: Sequence[str], drop: Sequence[str], target: str | None = None, what: str = "column"
) -> tuple[str, ...]:
    """The names without those in `drop`, in their order.

    Raises:
        DatasetRefused: a name in `drop`, or the target, is not there, or nothing is left to learn from.
    """
    for name in drop:
        if name not in names:
            raise DatasetRefused(f"no {what} {name!r} to leave out; there are {', '.join(names)[:500]}")
    kept = tuple(name for name in names if name not in drop)
    if target is not None and target not in kept:
        raise DatasetRefused(f"no {what} {target!r} to learn; there are {', '.join(kept)[:500]}")
    if set(kept) <= {target}:
        raise DatasetRefused(f"no {what} is left to learn from")
    return kept


def block_rows(width: int) -> int:
    """How many rows of so many columns make a block of bounded size."""
    return max(16, BLOCK_CELLS // max(1, width))


@contextmanager
def open_plain(path: Path) -> Iterator[BinaryIO]:
    """An open file that is one: no link (it may lead anywhere), no device, no pipe, not empty.

    Raises:
        DatasetRefused: it is none, or cannot be opened.
    """
    if path.is_symlink():
        raise DatasetRefused("is a symbolic link; name the file itself")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise DatasetRefused(f"cannot be opened: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise DatasetRefused("is not a plain file")
    with os.fdopen(handle, "rb") as file:
        if not file_size(file):
            raise DatasetRefused("is empty")
        yield file


def file_size(file: BinaryIO) -> int:
    """Bytes of an open file."""
    return os.fstat(file.fileno()).st_size


class CsvTable:
    """A CSV file (RFC 4180, UTF-8) whose first line names the columns; commas, semicolons, tabs or bars.

    Columns in `drop` are passed over.

    Raises:
        DatasetRefused: no header, a ragged row, not UTF-8, a quote left open, a line without end.
    """

    unit = "line"

    def __init__(
        self, file: BinaryIO, drop: Sequence[str] = (), progress: Teller = lambda total: lambda done: None
    ) -> None:
        self._file, self._progress = file, progress(file_size(file))
        header = file.readline(MAX_LINE)
        self._delimiter = max(_DELIMITERS, key=lambda mark: header.count(mark.encode()))  # of equals, the first
        self._text = open(file.fileno(), encoding="utf-8-sig", newline="", closefd=False)  # noqa: SIM115
        _, names = next(self._rows(), (0, []))
        every = check_names([name.strip() for name in names])
        if all(_NUMBER.match(name) for name in every):
            raise DatasetRefused("the first line must name the columns")
        self.names = kept_names(every, drop)
        self._kept = [every.index(name) for name in self.names]

    def blocks(self) -> Iterator[Block]:
        """All rows from the beginning, at each call anew."""
        rows = self._rows()
        next(rows)
        while taken := list(islice(rows, block_rows(len(self.names)))):
            places, values = zip(*taken, strict=True)
            columns = tuple(zip(*values, strict=True))
            yield Block(places, [columns[position] for position in self._kept])
            self._progress(os.lseek(self._file.fileno(), 0, os.SEEK_CUR))

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Each row that is not blank, with the line on which it ends."""
        self._text.seek(0)
        reader = csv.reader(_lines(self._text), delimiter=self._delimiter, strict=True)
        width = 0
        try:
            for row in filter(None, reader):
                width = width or len(row)
                if len(row) != width:
                    raise DatasetRefused(f"line {reader.line_num} has {len(row)} values, and the header {width} names")
                yield reader.line_num, row
        except UnicodeDecodeError:
            raise DatasetRefused(f"line {_odd_line(self._file)} is not UTF-8 text") from None
        except csv.Error as error:
            raise DatasetRefused(f"line {reader.line_num}: {error}") from None


def _odd_line(file: BinaryIO) -> int:
    """The first line that is not UTF-8; 0 if it is no more."""
    file.seek(0)
    for number, line in enumerate(file, 1):
        try:
            line.decode()
        except UnicodeDecodeError:
            return number
    return 0


def _lines(text: TextIO) -> Iterator[str]:
    """The lines of a text, none of them long enough to fill the memory."""
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise DatasetRefused(f"a line is longer than {MAX_LINE} characters")
        yield line
