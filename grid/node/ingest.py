"""Files become datasets: CSV, Parquet, NPY and NPZ to named tensors and their description.

The one module of this room with numpy: it runs in the process of `grid-node dataset add`, never in the daemon.
"""

from __future__ import annotations

import math
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, Literal, Protocol, cast

import numpy as np
from msgspec.structs import replace
from numpy.lib import format as npy
from numpy.typing import NDArray

from grid.learning.arrays import layout_of
from grid.learning.tensors import header_bytes
from grid.node.survey import Survey, Surveyed, survey
from grid.node.tables import CsvTable, Table, file_size, kept_names, open_plain
from grid.wire.node import Column, DatasetInfo, DType, TensorInfo
from grid.wire.problems import DatasetRefused

Array = NDArray[Any]
Tensors = dict[str, Array]
Progress = Callable[[float], None]

MAX_BYTES = 32 * 1024**3
MAX_MEMBERS = 256
UNPACKED = 1024**3
"""Bytes: an archive may always unpack to so much; beyond that to no more than 100 times its own size."""

FEATURES, TARGET = "features", "target"
_BLOCK = 1 << 20
_STORED_AS = {"b1": "?", "i1": "i1", "u1": "u1", "i2": "<i2", "i4": "<i4", "i8": "<i8", "f2": "<f2", "f4": "<f4"}
_STORED_AS |= {"f8": "<f4", "u2": "<i4", "u4": "<i8"}
_BROKEN = (ValueError, EOFError, OSError, RuntimeError, tokenize.TokenError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Reading:
    """How a file is to be read.

    `target` names what is to be learned: a column (NPY: its number) or an array. `classes` fixes names and order
    of its classes, `regression` learns whole numbers as numbers. What is in `drop` is left out.
    """

    target: str | None = None
    classes: tuple[str, ...] = ()
    regression: bool = False
    drop: tuple[str, ...] = ()


PLAIN = Reading()


def ingest(
    path: Path, info: DatasetInfo, reading: Reading = PLAIN, progress: Progress = lambda share: None
) -> tuple[DatasetInfo, Tensors]:
    """Read a dataset: `info` with its examples, tensors, columns and classes filled in, and the tensors.

    Tables become `features`, float32 (n, d) in the order of the columns, words as places among the column's
    sorted words; and `target`, int64 (n) of class codes if it is whole or words, else float32 (n).
    Arrays keep their names and types (float64 becomes float32); one alone beside the target becomes `features`.
    `progress` is told the share that is done, 0 to 1.

    Raises:
        DatasetRefused: this file cannot become a dataset; the detail names the file and the place in it.
    """
    if len(set(reading.classes)) != len(reading.classes):
        raise DatasetRefused("a class is named twice")
    if (read := _READERS.get(path.suffix.lower())) is None:
        raise DatasetRefused(f"{path}: known are files that end in {', '.join(_READERS)}")
    try:
        with open_plain(path) as file:
            return read(file, info, reading, progress)
    except DatasetRefused as refused:
        raise DatasetRefused(f"{path}: {refused.detail}") from None


class Sink(Protocol):
    """Where bytes go."""

    def write(self, data: memoryview | bytes, /) -> object:
        """Take some bytes."""


def write_tensors(tensors: Mapping[str, Array], sink: Sink) -> None:
    """Write tensors in the safetensors layout, in blocks."""
    layout = layout_of(tensors)
    sink.write(header_bytes(layout))
    for spec in layout.specs:
        data: Any = tensors[spec.name].reshape(-1).view(np.uint8)
        for start in range(0, spec.size, _BLOCK):
            sink.write(memoryview(data[start : start + _BLOCK]))


# --- tables ---------------------------------------------------------------------------------


def _csv(file: BinaryIO, info: DatasetInfo, reading: Reading, progress: Progress) -> tuple[DatasetInfo, Tensors]:
    return _from_table(CsvTable(file, reading.drop, lambda total: _twice(total, progress)), info, reading)


def _parquet(file: BinaryIO, info: DatasetInfo, reading: Reading, progress: Progress) -> tuple[DatasetInfo, Tensors]:
    try:
        from grid.node.parquet import ParquetTable
    except ModuleNotFoundError:
        raise DatasetRefused("Parquet files are read with duckdb: install grid-daemon[data]") from None
    return _from_table(ParquetTable(file, reading.drop, lambda total: _twice(total, progress)), info, reading)


def _twice(total: int, progress: Progress) -> Callable[[int], None]:
    """Two passes over `total`, of which we hear the position in each, as one share."""
    done = last = 0

    def tell(position: int) -> None:
        nonlocal done, last
        done += position - last if position > last else position
        last = position
        progress(min(1.0, done / max(1, 2 * total)))

    return tell


def _from_table(table: Table, info: DatasetInfo, reading: Reading) -> tuple[DatasetInfo, Tensors]:
    rows, columns = survey(table, reading.target, reading.classes, reading.regression)
    width = sum(column.position is not None for column in columns)
    if 4 * rows * width > MAX_BYTES:
        raise DatasetRefused(f"{rows} rows of {width} columns are more than {MAX_BYTES} bytes")
    tensors: Tensors = {FEATURES: np.empty((rows, width), np.float32)}
    classes = next((column.encoding.categories for column in columns if column.position is None), ())
    if reading.target is not None:
        tensors[TARGET] = np.empty(rows, np.int64 if classes else np.float32)
    _fill(table, columns, tensors)
    info = replace(info, columns=tuple(map(_described_column, columns)), classes=classes)
    return _described(info, tensors), tensors


def _fill(table: Table, columns: list[Surveyed], tensors: Tensors) -> None:
    """The second pass: every value to its place."""
    features = tensors[FEATURES]
    places = [tensors[TARGET] if c.position is None else features[:, c.position] for c in columns]
    start = 0
    try:
        for block in table.blocks():
            stop = start + len(block.places)
            for place, column, values in zip(places, columns, block.columns, strict=True):
                place[start:stop] = column.encoding.encode(values)
            start = stop
    except (KeyError, ValueError):
        start = -1
    if start != len(features):
        raise DatasetRefused("changed while it was read")


def _described_column(column: Surveyed) -> Column:
    kind: Literal["number", "category"] = "category" if column.encoding.categories else "number"
    if column.position is None:  # its categories are the classes of the dataset
        return Column(name=column.name, kind=kind, tensor=TARGET)
    categories = column.encoding.categories
    return Column(name=column.name, kind=kind, tensor=FEATURES, position=column.position, categories=categories)


# --- arrays ---------------------------------------------------------------------------------


def _npy(file: BinaryIO, info: DatasetInfo, reading: Reading, progress: Progress) -> tuple[DatasetInfo, Tensors]:
    array = _read_array(file, file_size(file))
    if reading.target is None and not reading.drop:
        return _from_arrays({FEATURES: array}, info, reading)
    if array.ndim != 2:
        raise DatasetRefused(f"has {array.ndim} axes; a column can be named where there are 2")
    width, arrays = array.shape[1], {}
    absent = {_column_number(word, width) for word in reading.drop}
    if reading.target is not None:
        target = _column_number(reading.target, width)
        arrays[TARGET] = array[:, target]
        absent.add(target)
    arrays[FEATURES] = array[:, [number for number in range(width) if number not in absent]]
    return _from_arrays(arrays, info, reading)


def _column_number(word: str, width: int) -> int:
    try:
        return range(width)[int(word)]
    except (ValueError, IndexError):
        raise DatasetRefused(f"no column {word!r}; there are 0 to {width - 1}") from None


def _npz(file: BinaryIO, info: DatasetInfo, reading: Reading, progress: Progress) -> tuple[DatasetInfo, Tensors]:
    try:
        with zipfile.ZipFile(file) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            _check_archive(members, archive, file_size(file))
            names = kept_names(tuple(members), reading.drop, reading.target, "array")
            arrays = {}
            for done, name in enumerate(names):
                with archive.open(members[name]) as member:
                    arrays[name] = _read_array(member, members[name].file_size)
                progress((done + 1) / len(names))
    except _BROKEN as error:
        raise DatasetRefused(f"not an NPZ archive that can be read: {error}") from None
    return _from_arrays(_renamed(arrays, reading.target), info, reading)


def _check_archive(members: Mapping[str, zipfile.ZipInfo], archive: zipfile.ZipFile, size: int) -> None:
    """An archive says what it unpacks to; reading stops there, so what it says is what is to be judged."""
    unpacked = sum(member.file_size for member in members.values())
    if len(members) != len(archive.infolist()) or not 0 < len(members) <= MAX_MEMBERS:
        raise DatasetRefused(f"must hold 1 to {MAX_MEMBERS} arrays, each under its own name")
    if unpacked > min(MAX_BYTES, max(UNPACKED, 100 * size)):
        raise DatasetRefused(f"{size} bytes would unpack to {unpacked}")


def _renamed(arrays: Tensors, target: str | None) -> Tensors:
    names = {name: TARGET if name == target else name for name in arrays}
    others = [name for name in arrays if name != target]
    if len(others) == 1:
        names[others[0]] = FEATURES
    if len(set(names.values())) != len(names):
        raise DatasetRefused(f"another array is already named {TARGET!r}")
    return {names[name]: array for name, array in arrays.items()}


def _read_array(stream: IO[bytes], size: int) -> Array:
    """An array of the NPY format, `size` bytes with its header, which is checked before anything is allocated."""
    try:
        version = npy.read_magic(stream)
        shape, _, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
        if dtype.hasobject:
            raise DatasetRefused("holds Python objects; only numbers and text are read")
        if any(type(side) is not int or side < 0 for side in shape):
            raise DatasetRefused(f"its header speaks of the shape {shape}")
        if math.prod(shape) * dtype.itemsize != size - stream.tell():
            raise DatasetRefused(f"its header speaks of {dtype}{list(shape)}, and that is not what follows")
        stream.seek(0)
        return npy.read_array(stream, allow_pickle=False)
    except _BROKEN as error:
        raise DatasetRefused(f"not an array that can be read: {error}") from None


def _from_arrays(arrays: Tensors, info: DatasetInfo, reading: Reading) -> tuple[DatasetInfo, Tensors]:
    rows = {array.shape[0] if array.ndim else 0 for array in arrays.values()}
    if len(rows) > 1 or 0 in rows:
        raise DatasetRefused(f"arrays must have as many rows as each other, at least 1: {_shapes(arrays)}")
    tensors: Tensors = {}
    classes: tuple[str, ...] = ()
    for name, array in arrays.items():
        if name == TARGET and reading.target is not None and math.prod(array.shape[1:]) == 1:
            classes, tensors[name] = _learned(array.reshape(-1), reading)
        else:
            tensors[name] = _stored(name, array)
    return _described(replace(info, classes=classes), tensors), tensors


def _learned(array: Array, reading: Reading) -> tuple[tuple[str, ...], Array]:
    """A target with one value in each row: classes and codes, or numbers."""
    values: Any = array.tolist()
    column = Survey(reading.target or TARGET, "row")
    column.look(range(1, len(values) + 1), values)
    encoding = column.target(reading.classes, reading.regression)
    return encoding.categories, np.array(encoding.encode(values), np.int64 if encoding.categories else np.float32)


def _stored(name: str, array: Array) -> Array:
    """The array as it is kept: native, contiguous, finite."""
    if not (kind := _STORED_AS.get(array.dtype.str[1:])):
        raise DatasetRefused(f"array {name!r} holds {array.dtype}; kept are bool, whole and floating-point numbers")
    with np.errstate(over="ignore"):
        kept = np.ascontiguousarray(array, kind)
    finite = np.isfinite(kept).reshape(len(kept), -1).all(axis=1)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        what = f"NaN, infinity or a number too large for {kept.dtype}"
        raise DatasetRefused(f"array {name!r} has {what} in {len(bad)} rows, the first is row {bad[0] + 1}")
    return kept


def _shapes(arrays: Tensors) -> str:
    return ", ".join(f"{name} {list(array.shape)}" for name, array in arrays.items())


def _described(info: DatasetInfo, tensors: Tensors) -> DatasetInfo:
    """The description with what the tensors are, by their names and types."""
    infos = tuple(
        TensorInfo(name=name, dtype=cast(DType, str(array.dtype)), shape=array.shape) for name, array in tensors.items()
    )
    goal = TARGET if TARGET in tensors else None
    return replace(info, examples=len(next(iter(tensors.values()))), tensors=infos, target=goal)


_READERS = {".csv": _csv, ".tsv": _csv, ".parquet": _parquet, ".npy": _npy, ".npz": _npz}
