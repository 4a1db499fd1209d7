from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grid.learning import aggregation, torch_sums

SIZE = 7
models = arrays(np.float32, SIZE, elements=st.floats(-1e6, 1e6, width=32))
factors = st.floats(1e-3, 1e3)


@given(models, models, factors)
def test_torch_and_numpy_make_the_same_sum_but_for_the_rounding_of_the_product(
    total: np.ndarray, update: np.ndarray, factor: float
) -> None:
    ours, theirs = total.copy(), total.copy()
    torch_sums.add_scaled(ours, update, factor)
    aggregation.add_scaled(theirs, update, factor)

    one_rounding = np.abs(factor * update.astype(np.float64)) + np.abs(total)
    assert (np.abs(ours - theirs) <= 2**-22 * one_rounding + 1e-37).all()


@given(models, models)
def test_where_every_weight_is_the_same_they_agree_bit_for_bit(total: np.ndarray, update: np.ndarray) -> None:
    ours, theirs = total.copy(), total.copy()
    torch_sums.add_scaled(ours, update, 1.0)
    aggregation.add_scaled(theirs, update, 1.0)

    assert ours.tobytes() == theirs.tobytes()


@pytest.mark.filterwarnings("error")
def test_an_update_that_may_not_be_written_to_is_added_all_the_same() -> None:
    total = np.ones(3, np.float64)
    torch_sums.add_scaled(total, np.frombuffer(np.arange(3.0).tobytes()), 2.0)

    assert total.tolist() == [1, 3, 5]
