"""A dataset file and a plan's file, as a node keeps them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from grid.learning.arrays import Array, layout_of, write_arrays
from grid.learning.plan import Plan
from grid.learning.tensors import header_bytes


def dataset_file(path: Path, **arrays: Array) -> Path:
    layout = layout_of(arrays)
    data = bytearray(layout.size)
    write_arrays(layout, arrays, data)
    path.write_bytes(header_bytes(layout) + data)
    return path


def separable(path: Path, examples: int = 200, width: int = 2) -> Path:
    """Random features, two classes: the sign of their sum."""
    features = np.random.default_rng(0).standard_normal((examples, width)).astype(np.float32)
    return dataset_file(path, features=features, target=(features.sum(1) > 0).astype(np.int64))


def bundle_file(path: Path, plan: Plan) -> Path:
    path.write_bytes(plan.bundle())
    return path
