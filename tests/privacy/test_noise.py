"""Noise is normal, independent, and the same for the same seed."""

from __future__ import annotations

import math

import numpy as np

from grid.privacy.noise import BLOCK, gaussians

COUNT = 400_000


def drawn(seed: int, count: int = COUNT) -> np.ndarray:
    return np.concatenate(list(gaussians(bytes([seed]) * 16, count)))


def test_its_moments_and_its_shape_are_those_of_a_standard_normal() -> None:
    values = drawn(1)

    assert abs(values.mean()) < 5 / math.sqrt(COUNT)
    assert abs(values.var() - 1) < 5 * math.sqrt(2 / COUNT)
    assert abs((values**4).mean() - 3) < 5 * math.sqrt(96 / COUNT)
    ordered = np.sort(values)[:: COUNT // 1000]
    expected = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in ordered])
    assert np.abs(expected - np.arange(len(ordered)) / len(ordered)).max() < 2 / math.sqrt(COUNT) * 1.95


def test_neighbours_blocks_and_seeds_have_nothing_to_do_with_each_other() -> None:
    values, others = drawn(1), drawn(2)

    for one, other in [(values[:-1], values[1:]), (values[:BLOCK], values[BLOCK : 2 * BLOCK]), (values, others)]:
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(len(one))


def test_the_same_seed_gives_the_same_however_many_are_wanted() -> None:
    assert np.array_equal(drawn(3, 10), drawn(3)[:10])
    assert len(drawn(3, BLOCK + 1)) == BLOCK + 1
