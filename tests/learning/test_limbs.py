"""Wide numbers under masks: what is added up is exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.learning.limbs import FRACTION, LARGEST, PARTIES, from_limbs, to_limbs
from grid.learning.masking import mask
from grid.wire.problems import UpdateRefused

wide = st.integers(-(2**58), 2**58).map(float) | st.floats(-1e6, 1e6)
"""Numbers of any size that the ring has room for."""


@given(st.lists(st.lists(wide, min_size=3, max_size=3), min_size=1, max_size=20))
def test_the_sum_is_that_of_whole_multiples_of_the_finest_step(vectors: list[list[float]]) -> None:
    steps = [[round(number * 2**FRACTION) for number in vector] for vector in vectors]
    total = np.zeros(15, np.uint32)
    for vector in vectors:
        total += to_limbs(np.array(vector))

    found = from_limbs(total, len(vectors))

    wanted = [float(sum(column)) / 2**FRACTION for column in zip(*steps, strict=True)]
    np.testing.assert_allclose(found, wanted, rtol=2**-52, atol=0)


def test_as_many_as_there_may_be_do_not_run_over() -> None:
    one = to_limbs(np.array([-LARGEST * (1 - 2**-50), LARGEST * (1 - 2**-50)]))

    found = from_limbs((one * np.uint32(PARTIES)).astype(np.uint32), PARTIES)

    np.testing.assert_allclose(found, np.array([-PARTIES, PARTIES]) * LARGEST, rtol=1e-12)


def test_masks_come_off_without_a_trace() -> None:
    vector = to_limbs(np.array([0.1, -0.1, 12345.678]))

    mask(vector, [b"a" * 16])
    mask(vector, [], [b"a" * 16])

    np.testing.assert_allclose(from_limbs(vector, 1), [0.1, -0.1, 12345.678], atol=2.0**-FRACTION)


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, LARGEST])
def test_what_the_ring_has_no_room_for_is_refused(number: float) -> None:
    with pytest.raises(UpdateRefused, match="not finite, or not below"):
        to_limbs(np.array([number]))


@pytest.mark.parametrize("count", [0, PARTIES + 1])
def test_a_sum_of_too_many_vectors_is_none(count: int) -> None:
    with pytest.raises(ValueError, match="fit"):
        from_limbs(np.zeros(5, np.uint32), count)
