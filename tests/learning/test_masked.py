"""Vectors under masks and back: the weighted mean of what was learned, whatever the masks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.learning.layouts import MASKED_METRICS, upload_layout
from grid.learning.masked import RingSum, Vectors
from grid.learning.masking import mask
from grid.learning.said import Own
from grid.learning.strategy import PRESETS, Masked, Strategy, travelling
from grid.learning.tensors import Layout, TensorSpec
from grid.wire.problems import StrategyRefused, UpdateRefused

LAYOUT = Layout([TensorSpec("w", "F32", (40, 25)), TensorSpec("b", "F32", (25,))])
STRATEGY = travelling(PRESETS["fedavg"], upload="masked")
NUMBERS = 1025


def model(seed: int, scale: float = 1.0) -> memoryview:
    return memoryview((np.random.default_rng(seed).normal(0, scale, NUMBERS)).astype(np.float32).tobytes())


def summed(owns: list[Own], strategy: Strategy = STRATEGY, scale: float = 0.1) -> tuple[np.ndarray, np.ndarray, object]:
    """What these nodes' vectors come to, as a model, beside what it should be; and what they said."""
    before, vectors = model(0), Vectors(strategy, LAYOUT, (), len(owns[0].metrics), len(owns))
    total, learned = RingSum(vectors.numbers), []
    seeds = [bytes([at]) * 16 for at in range(len(owns))]
    for at, own in enumerate(owns):
        moved = np.frombuffer(model(at + 1, scale), np.float32)
        after = np.frombuffer(before, np.float32) + moved
        learned.append(after - np.frombuffer(before, np.float32))
        vector = vectors.vector(before, memoryview(after.tobytes()), own, np.random.default_rng(at))
        mask(vector, [seeds[at]])
        total.add(memoryview(vector.tobytes()))
    target = memoryview(bytearray(LAYOUT.size))
    said = vectors.unfold(total.lifted((), seeds), total.count, before, target)
    weights = [min(own.examples, 16_384) for own in owns]
    wanted = np.frombuffer(before, np.float32) + np.average(learned, axis=0, weights=weights)
    return np.frombuffer(target, np.float32), wanted, said


@given(st.lists(st.integers(50, 5000), min_size=3, max_size=12))
def test_the_sum_is_the_mean_weighted_by_examples_within_1e_5(examples: list[int]) -> None:
    found, wanted, said = summed([Own(count, 0.5) for count in examples])

    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert said.examples == pytest.approx(sum(examples), rel=1e-4)
    assert said.loss == pytest.approx(0.5, abs=1e-3)


def test_what_is_measured_is_weighted_by_what_is_held_out() -> None:
    owns = [Own(100, 1.0, 20, (0.5, 0.9)), Own(200, 2.0, 60, (0.1, 0.5)), Own(300, 3.0, 0, (0.0, 0.0))]

    _, _, said = summed(owns)

    assert said.held_out == pytest.approx(80, abs=1e-2)
    assert said.metrics == pytest.approx([0.2, 0.6], abs=1e-3)


def test_where_nobody_measured_there_are_no_metrics() -> None:
    assert summed([Own(100, 1.0)] * 3)[2].metrics == ()


def test_whoever_has_more_than_the_most_counts_as_with_so_many() -> None:
    found, wanted, said = summed([Own(16_384, 1.0), Own(10**9, 1.0), Own(16_384, 1.0)])

    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert said.examples == pytest.approx(3 * 16_384, rel=1e-4)


def test_numbers_beyond_the_bound_are_clipped_by_the_node_itself() -> None:
    tight = Strategy(upload=Masked(bound=0.01))

    found, _, _ = summed([Own(16_384, 0.0)] * 3, tight, scale=10.0)

    moved = np.abs(found - np.frombuffer(model(0), np.float32))
    assert moved.max() <= 0.0101


def test_a_sum_of_nothing_is_no_model() -> None:
    vectors = Vectors(STRATEGY, LAYOUT, (), 0, 3)
    empty = vectors.vector(model(0), model(0), Own(0, 0.0), np.random.default_rng(0))

    with pytest.raises(UpdateRefused, match="add up to nothing"):
        vectors.unfold(empty, 1, model(0), memoryview(bytearray(LAYOUT.size)))


def test_a_node_whose_training_went_wrong_sends_no_vector() -> None:
    vectors, broken = Vectors(STRATEGY, LAYOUT, (), 0, 3), bytearray(model(0))
    broken[:4] = np.float32(np.nan).tobytes()

    with pytest.raises(UpdateRefused, match="not finite"):
        vectors.vector(model(0), memoryview(broken), Own(10, 0.0), np.random.default_rng(0))


def test_it_takes_four_bytes_a_number_and_counters_cannot_be_summed() -> None:
    assert upload_layout(LAYOUT, STRATEGY).size == 4 * (NUMBERS + MASKED_METRICS)

    with pytest.raises(StrategyRefused, match="it has no mean"):
        upload_layout(Layout([*LAYOUT.specs, TensorSpec("seen", "I64", ())]), STRATEGY)
