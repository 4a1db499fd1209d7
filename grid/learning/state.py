"""torch tensors over the bytes of a layout, without copying."""

from __future__ import annotations

import math
import warnings

import torch

from grid.learning.interpreter import TORCH_TYPES
from grid.learning.tensors import Layout
from grid.wire.problems import TensorsRefused

State = dict[str, torch.Tensor]


def tensor_views(layout: Layout, data: bytes | bytearray | memoryview) -> State:
    """A tensor over each tensor's bytes; `data` is the data section. Writing to a tensor writes to `data`.

    Raises:
        TensorsRefused: `data` is not as long as the layout says.
    """
    if memoryview(data).nbytes != layout.size:
        raise TensorsRefused(f"{memoryview(data).nbytes} bytes of tensors where {layout.size} were announced")
    with warnings.catch_warnings():  # torch warns of read-only buffers; constants are read only
        warnings.simplefilter("ignore", UserWarning)
        return {spec.name: _view(data, TORCH_TYPES[spec.dtype], spec.shape, begin) for spec, begin, _ in layout.slots}


def _view(data: bytes | bytearray | memoryview, dtype: torch.dtype, shape: tuple[int, ...], begin: int) -> torch.Tensor:
    count = math.prod(shape)
    if not count:
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=begin).view(shape)
