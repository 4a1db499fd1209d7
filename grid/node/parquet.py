"""Parquet files as tables, read by DuckDB; what is neither numbers nor words has to be left out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import duckdb

from grid.node.tables import Block, Cells, Teller, block_rows, check_names, kept_names
from grid.wire.problems import DatasetRefused

_NUMBERS = ("TINYINT", "SMALLINT", "INT", "BIGINT", "HUGEINT", "U", "FLOAT", "DOUBLE", "DECIMAL")
_WORDS = ("VARCHAR", "BOOLEAN", "ENUM")
# Nothing is fetched or loaded because of what stands in a file.
_CLOSED: Any = {"autoinstall_known_extensions": "false", "autoload_known_extensions": "false", "threads": "2"}


class ParquetTable:
    """A Parquet file; rows count from 1. Columns in `drop` are not read.

    Raises:
        DatasetRefused: not Parquet, or a column is neither numbers nor words.
    """

    unit = "row"

    def __init__(
        self, file: BinaryIO, drop: Sequence[str] = (), progress: Teller = lambda total: lambda done: None
    ) -> None:
        # By descriptor: the file that was checked is the file that is read, and its name is no pattern.
        self._path = f"/proc/self/fd/{file.fileno()}"
        with _query("DESCRIBE SELECT * FROM read_parquet(?)", self._path) as described:
            kinds = {str(row[0]): str(row[1]) for row in described.fetchall()}
        with _query("SELECT count(*) FROM read_parquet(?)", self._path) as counted:
            self._progress = progress(int(counted.fetchall()[0][0]))
        self.names = kept_names(check_names(list(kinds)), drop)
        self._readers = [_reader(name, kinds[name]) for name in self.names]

    def blocks(self) -> Iterator[Block]:
        """All rows from the beginning, at each call anew."""
        columns = ", ".join('"' + name.replace('"', '""') + '"' for name in self.names)
        size, place = block_rows(len(self.names)), 1
        with _query(f"SELECT {columns} FROM read_parquet(?)", self._path) as found:  # noqa: S608 - names are quoted
            while rows := found.fetchmany(size):
                values = zip(*rows, strict=True)
                columns_read = [read(column) for read, column in zip(self._readers, values, strict=True)]
                yield Block(range(place, place + len(rows)), columns_read)
                place += len(rows)
                self._progress(place - 1)


@contextmanager
def _query(statement: str, path: str) -> Iterator[Any]:
    """The open result of a query. Raises DatasetRefused if DuckDB cannot make sense of the file."""
    connection = duckdb.connect(":memory:", config=_CLOSED)
    try:
        yield connection.execute(statement, [path])
    except duckdb.Error as error:
        reason = str(error).splitlines()[0].replace(f"'{path}'", "")
        raise DatasetRefused(f"not a Parquet file that can be read: {reason}") from None
    finally:
        connection.close()


def _reader(name: str, kind: str) -> Callable[[Sequence[Any]], Cells]:
    if "[" in kind or not kind.startswith(_NUMBERS + _WORDS) or kind.startswith(("UUID", "UNION")):
        raise DatasetRefused(f"column {name!r} holds {kind[:40]}, neither numbers nor words: leave it out with --drop")
    return _numbers if kind.startswith(_NUMBERS) else _words


def _numbers(values: Sequence[Any]) -> Cells:
    return [math.nan if value is None else float(value) for value in values]


def _words(values: Sequence[Any]) -> Cells:
    return ["" if value is None else str(value) for value in values]
