"""Tensors that look like a dataset's and have nobody's data in them: made from its description alone.

Whoever may find a dataset can try a plan on these before asking for the data. They have its names, types, widths,
categories and classes; their values are drawn from a seed and say nothing of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from grid.learning.tensors import Layout, TensorSpec, header_bytes, read_header
from grid.wire.node import DatasetInfo, TensorInfo
from grid.wire.problems import TensorsRefused

ROWS = 100
"""Rows of a mock, if the dataset has as many."""
_STORED = {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"} | {
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}


def made(info: DatasetInfo, rows: int | None = None, seed: int = 0) -> dict[str, Any]:
    """Arrays by tensor's name, each (rows, ...): standard normal numbers, codes of categories and classes.

    `rows`: 100, or what the dataset has if that is less, if not given.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    count = min(ROWS, info.examples) if rows is None else rows
    return {each.name: _drawn(rng, info, each, (count, *each.shape[1:])) for each in info.tensors}


def _drawn(rng: Any, info: DatasetInfo, tensor: TensorInfo, shape: tuple[int, ...]) -> Any:
    if tensor.dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if tensor.name == info.target and info.classes:
        return rng.integers(0, len(info.classes), shape).astype(tensor.dtype)
    if not tensor.dtype.startswith("float"):
        return rng.integers(0, 2 if tensor.name == info.target else 100, shape).astype(tensor.dtype)
    drawn = rng.standard_normal(shape)
    for column in info.columns:
        if column.tensor == tensor.name and column.categories and len(shape) == 2:
            drawn[:, column.position] = rng.integers(0, len(column.categories), shape[0])
    return drawn.astype(tensor.dtype)


def arrays_of(file: memoryview) -> dict[str, Any]:
    """The arrays in a file of tensors (safetensors), as views on it. Raises TensorsRefused if it is none."""
    import numpy as np

    layout, _, begin = read_header(file, len(file))
    found = {}
    for name, slot in layout.by_name.items():
        data = file[begin + slot.begin : begin + slot.begin + slot.spec.size]
        found[name] = np.frombuffer(data, _STORED[slot.spec.dtype]).reshape(slot.spec.shape)
    return found


def bytes_of(arrays: Mapping[str, Any]) -> list[bytes]:
    """A file of tensors (safetensors) that holds these arrays, in pieces. Raises TensorsRefused for other types."""
    import numpy as np

    names = {np.dtype(stored): name for name, stored in _STORED.items()}
    held = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in held.items():
        if array.dtype not in names:
            raise TensorsRefused(f"{name!r} has numpy dtype {array.dtype}, which has no place in the format")
    layout = Layout(TensorSpec(name, names[array.dtype], array.shape) for name, array in held.items())
    return [header_bytes(layout), *(np.ascontiguousarray(held[spec.name]).tobytes() for spec in layout.specs)]


def numbers_of(dtype: str, shape: Sequence[int], data: bytes) -> Any:
    """Numbers of a type of safetensors, as an array. Raises ValueError for too few or too many."""
    import numpy as np

    return np.frombuffer(data, _STORED[dtype]).reshape(shape)


def array_of(data: bytes, tensor: TensorInfo) -> Any:
    """The bytes of one tensor as an array of its type and shape. Raises ValueError for too few or too many."""
    import numpy as np

    return np.frombuffer(data, np.dtype(tensor.dtype).newbyteorder("<")).reshape(tensor.shape)
