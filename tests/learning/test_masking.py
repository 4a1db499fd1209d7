from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.learning.masking import BLOCK, STREAMS, Quantiser, mask

RNG = np.random.default_rng(7)


def vectors(count: int, numbers: int) -> list[np.ndarray]:
    return [RNG.normal(size=numbers).astype(np.float32) for _ in range(count)]


@given(st.integers(1, 300), st.floats(0.01, 1e4), st.integers(0, 2**32 - 1))
def test_a_sum_of_all_parties_never_wraps_and_its_mean_is_within_a_step(parties: int, range_: float, seed: int) -> None:
    rng, quantiser = np.random.default_rng(seed), Quantiser(range_, parties)
    parts = rng.uniform(-1.5 * range_, 1.5 * range_, size=(parties, 5)).astype(np.float32)

    total = sum(quantiser.quantise(part, rng).astype(np.uint64) for part in parts)

    assert np.max(total) < 2**32
    wanted = np.clip(parts.astype(np.float64), -range_, range_).mean(axis=0)
    np.testing.assert_allclose(quantiser.mean(total.astype(np.uint32), parties), wanted, rtol=0, atol=quantiser.step)


def test_masks_between_pairs_cancel_in_the_sum_and_only_there() -> None:
    quantiser, names = Quantiser(8.0, 3), range(3)
    parts = vectors(3, BLOCK + 17)
    plain = [quantiser.quantise(part, RNG) for part in parts]
    seeds = {(a, b): bytes([a, b] * 8) for a in names for b in names if a < b}
    masked = [part.copy() for part in plain]

    for me in names:
        mask(masked[me], [s for (a, _), s in seeds.items() if a == me], [s for (_, b), s in seeds.items() if b == me])

    np.testing.assert_array_equal(masked[0] + masked[1] + masked[2], plain[0] + plain[1] + plain[2])
    for me in names:
        assert np.mean(masked[me] == plain[me]) < 0.001


def test_a_masked_vector_looks_like_noise() -> None:
    vector = np.zeros(4 * BLOCK, np.uint32)

    mask(vector, [b"k" * 16])

    counts = np.bincount(vector.view(np.uint8), minlength=256)
    expected = vector.nbytes / 256
    assert np.sum((counts - expected) ** 2 / expected) < 400  # chi square of 255 degrees: 400 has p = 1e-8


def test_what_was_added_can_be_taken_away() -> None:
    vector = np.arange(100, dtype=np.uint32)

    mask(vector, [b"k" * 16])
    mask(vector, (), [b"k" * 16])

    np.testing.assert_array_equal(vector, np.arange(100))


def test_rounding_has_no_bias() -> None:
    quantiser = Quantiser(1.0, 1 << 16)  # few levels, so that rounding is seen
    value = np.float32(0.1234567)

    rounded = quantiser.quantise(np.full(200_000, value, np.float32), np.random.default_rng(0))

    assert abs(quantiser.mean(rounded, 1).mean() - value) < 4 * quantiser.step / np.sqrt(200_000)


def test_a_number_that_is_none_is_refused_rather_than_sent() -> None:
    with pytest.raises(ValueError, match="not finite"):
        Quantiser(1.0, 3).quantise(np.array([np.nan], np.float32), RNG)


def test_more_parties_than_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="where 1 to 3 fit"):
        Quantiser(1.0, 3).mean(np.zeros(1, np.uint32), 4)


@pytest.mark.parametrize(("range_", "parties"), [(0.0, 3), (float("inf"), 3), (1.0, 0), (1.0, 70_000)])
def test_a_quantiser_has_bounds(range_: float, parties: int) -> None:
    with pytest.raises(ValueError, match="needs a range"):
        Quantiser(range_, parties)


def test_many_masks_are_each_put_on_once() -> None:
    together, apart = np.zeros(BLOCK + 17, np.uint32), np.zeros(BLOCK + 17, np.uint32)
    seeds = [number.to_bytes(16, "big") for number in range(STREAMS + 3)]

    mask(together, iter(seeds))
    for seed in seeds:
        mask(apart, [seed])

    np.testing.assert_array_equal(together, apart)
