"""Models as they travel: the safetensors layout, of float32 and float64, and nothing else of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Model = dict[str, NDArray[Any]]

TYPES = {"F32": "<f4", "F64": "<f8"}
LONGEST = 100_000_000
"""Bytes of a header, at most."""


def read(file: bytes) -> Model:
    """The tensors of a file, by name, in its order. Raises ValueError: it is no such file."""
    size = int.from_bytes(file[:8], "little")
    if not 2 <= size <= min(LONGEST, len(file) - 8):
        raise ValueError("this is no file of tensors")
    header, data = json.loads(file[8 : 8 + size]), memoryview(file)[8 + size :]
    header.pop("__metadata__", None)
    found: Model = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] not in TYPES:
            raise ValueError(f"{name} is of type {entry['dtype']}, which this device does not know")
        found[name] = np.frombuffer(data[begin:end], TYPES[entry["dtype"]]).reshape(entry["shape"])
    return found


def write(model: Mapping[str, NDArray[Any]]) -> bytes:
    """The file of a model. Raises KeyError: its numbers are of another type."""
    names = {np.dtype(kind): name for name, kind in TYPES.items()}
    header, at, parts = {}, 0, []
    for name, array in model.items():
        data = np.ascontiguousarray(array).tobytes()
        entry = {"dtype": names[array.dtype], "shape": array.shape, "data_offsets": [at, at + len(data)]}
        header[name], at = entry, at + len(data)
        parts.append(data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *parts])
