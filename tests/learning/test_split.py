from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.learning.split import split


@given(st.integers(0, 500), st.floats(0, 0.99), st.integers(0, 5))
def test_every_row_is_on_exactly_one_side_always_the_same(rows: int, share: float, seed: int) -> None:
    train, held = split(rows, share, seed)

    assert sorted([*train, *held]) == list(range(rows))
    assert np.array_equal(split(rows, share, seed)[0], train)
    assert len(held) > 0 or not share or rows < 2


def test_another_seed_holds_out_other_rows() -> None:
    assert not np.array_equal(split(100, 0.2, 0)[1], split(100, 0.2, 1)[1])


def test_nothing_to_train_on_is_no_split() -> None:
    with pytest.raises(ValueError, match="held_out"):
        split(10, 1.0)
