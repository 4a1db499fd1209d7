from __future__ import annotations

import numpy as np
import pytest

from grid.learning.arrays import layout_of, views, write_arrays
from grid.learning.tensors import header_bytes, read_header
from grid.wire.problems import TensorsRefused


def test_arrays_go_into_a_buffer_and_come_out_as_views_of_it() -> None:
    arrays = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "e": np.zeros((0, 4), np.uint8)}
    layout = layout_of(arrays)
    buffer = bytearray(layout.size)

    write_arrays(layout, arrays, buffer)
    seen = views(layout, buffer)

    assert all(np.array_equal(seen[name], arrays[name]) for name in arrays)
    seen["w"][0, 0] = 9
    assert views(layout, buffer)["w"][0, 0] == 9


def test_a_buffer_of_another_length_is_refused() -> None:
    layout = layout_of({"w": np.zeros(3)})
    with pytest.raises(TensorsRefused, match="bytes"):
        views(layout, bytearray(layout.size + 1))


def test_arrays_that_are_not_the_layouts_are_refused() -> None:
    layout = layout_of({"w": np.zeros(3)})
    with pytest.raises(TensorsRefused, match="declared was"):
        write_arrays(layout, {"w": np.zeros(4)}, bytearray(layout.size))
    with pytest.raises(TensorsRefused, match="complex"):
        layout_of({"w": np.zeros(3, np.complex128)})


def test_the_header_of_arrays_is_read_back() -> None:
    layout = layout_of({"a": np.zeros((2, 2), np.float64), "b": np.ones(3, bool)})
    assert read_header(header_bytes(layout))[0] == layout
