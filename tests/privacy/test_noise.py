"""Noise is normal, independent, and the same for the same seed."""

from __future__ import annotations

import math

import numpy as np

from grid.privacy.noise import BLOCK, Draws, gaussians

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


def test_the_fast_ones_are_standard_normal_too_however_they_are_asked_for() -> None:
    draws = Draws(b"a" * 16)
    values = np.concatenate([draws.normals(count) for count in (1, 2 * BLOCK + 3, COUNT)])

    assert len(values) == COUNT + 2 * BLOCK + 4
    assert abs(values.mean(dtype=float)) < 5 / math.sqrt(len(values))
    assert abs(values.var(dtype=float) - 1) < 5 * math.sqrt(2 / len(values))
    assert abs((values.astype(float) ** 4).mean() - 3) < 5 * math.sqrt(96 / len(values))
    ordered = np.sort(values)[:: len(values) // 1000]
    expected = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in ordered])
    assert np.abs(expected - np.arange(len(ordered)) / len(ordered)).max() < 2 / math.sqrt(len(values)) * 1.95
    assert abs(np.corrcoef(values[:-1], values[1:])[0, 1]) < 5 / math.sqrt(len(values))


def test_each_is_chosen_with_the_same_probability_by_itself() -> None:
    draws, rate, times, count = Draws(b"b" * 16), 0.1, 2000, 50
    chosen = np.zeros((times, count))
    for row in chosen:
        row[draws.chosen(count, rate)] = 1

    spread = math.sqrt(rate * (1 - rate))
    assert np.abs(chosen.mean(0) - rate).max() < 5 * spread / math.sqrt(times)
    sizes = chosen.sum(1)
    assert abs(sizes.var() - count * spread**2) < 5 * count * spread**2 * math.sqrt(2 / times)
    assert abs(np.corrcoef(chosen[:, 0], chosen[:, 1])[0, 1]) < 5 / math.sqrt(times)


def test_none_and_all_can_be_chosen_from_many() -> None:
    draws, many = Draws(b"c" * 16), 5 * BLOCK

    assert np.array_equal(draws.chosen(many, 1.0), np.arange(many))
    assert len(draws.chosen(many, 1e-12)) == len(draws.chosen(0, 0.5)) == 0
    some = draws.chosen(many, 0.5)
    assert np.array_equal(some, np.unique(some))
    assert abs(len(some) - many / 2) < 5 * math.sqrt(many / 4)
