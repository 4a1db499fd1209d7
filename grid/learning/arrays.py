"""numpy arrays over the bytes of a layout, without copying."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from grid.learning.tensors import Layout, TensorSpec
from grid.wire.problems import TensorsRefused

Array = NDArray[Any]
Buffer = bytes | bytearray | memoryview

# numpy has no bfloat16: its bits are shown as uint16.
NUMPY_TYPES: dict[str, str] = {
    "F64": "<f8",
    "I64": "<i8",
    "F32": "<f4",
    "I32": "<i4",
    "F16": "<f2",
    "BF16": "<u2",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
_NAMES = {np.dtype(kind): name for name, kind in NUMPY_TYPES.items() if name != "BF16"}


def views(layout: Layout, data: Buffer) -> dict[str, Array]:
    """An array over each tensor's bytes; `data` is the data section. Writing to an array writes to `data`.

    Raises:
        TensorsRefused: `data` is not as long as the layout says.
    """
    if memoryview(data).nbytes != layout.size:
        raise TensorsRefused(f"{memoryview(data).nbytes} bytes of tensors where {layout.size} were announced")
    return {
        spec.name: np.ndarray(spec.shape, NUMPY_TYPES[spec.dtype], buffer=data, offset=begin)
        for spec, begin, _ in layout.slots
        if spec.size
    } | {spec.name: np.empty(spec.shape, NUMPY_TYPES[spec.dtype]) for spec in layout.specs if not spec.size}


def write_arrays(layout: Layout, arrays: Mapping[str, Array], data: bytearray | memoryview) -> None:
    """Copy the arrays to their places in `data`, a buffer of `layout.size` bytes.

    Raises:
        TensorsRefused: a name, shape or dtype is not the layout's.
    """
    layout_of(arrays).require(layout)
    for name, view in views(layout, data).items():
        np.copyto(view, arrays[name], casting="no")


def layout_of(arrays: Mapping[str, Array]) -> Layout:
    """The layout that holds these arrays."""
    return Layout(_spec(name, array) for name, array in arrays.items())


def _spec(name: str, array: Array) -> TensorSpec:
    try:
        return TensorSpec(name, _NAMES[array.dtype], array.shape)
    except KeyError:
        raise TensorsRefused(f"{name!r} has numpy dtype {array.dtype}, which has no place in the format") from None
