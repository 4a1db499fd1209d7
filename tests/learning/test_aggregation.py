from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from grid.learning.aggregation import WeightedMean, check_update
from grid.learning.arrays import layout_of, views, write_arrays
from grid.learning.tensors import Layout, TensorSpec
from grid.wire.problems import UpdateRefused

SIZE = 5
LAYOUT = Layout([TensorSpec("w", "F32", (SIZE,))])
models = arrays(np.float32, SIZE, elements=st.floats(-1e6, 1e6, width=32))
weights = st.integers(1, 10_000)
clients = st.lists(st.tuples(models, weights), min_size=1, max_size=5)


def mean_of(updates: list[tuple[np.ndarray, int]]) -> np.ndarray:
    mean, result = WeightedMean(LAYOUT), bytearray(LAYOUT.size)
    for model, weight in updates:
        check_update(LAYOUT, mean.spans, model.tobytes())
        mean.add(model.tobytes(), weight)
    mean.result_into(result)
    return np.frombuffer(result, np.float32)


@given(models, weights)
def test_the_mean_of_one_model_is_that_model_bit_for_bit(model: np.ndarray, weight: int) -> None:
    assert mean_of([(model, weight)]).tobytes() == model.tobytes()


@given(clients)
def test_it_is_the_weighted_mean_of_the_paper(updates: list[tuple[np.ndarray, int]]) -> None:
    expected = np.average([m.astype(np.float64) for m, _ in updates], axis=0, weights=[w for _, w in updates])
    largest = max(np.abs(m).max() for m, _ in updates)
    assert np.allclose(mean_of(updates), expected, rtol=1e-5, atol=1e-5 * largest + 1e-30)


@given(clients, st.randoms())
def test_the_order_of_arrival_does_not_matter(updates: list[tuple[np.ndarray, int]], shuffled: object) -> None:
    largest = max(np.abs(m).max() for m, _ in updates)
    assert np.allclose(mean_of(updates), mean_of(updates[::-1]), rtol=1e-5, atol=1e-5 * largest + 1e-30)


@given(clients, st.integers(2, 100))
def test_only_the_ratio_of_weights_matters(updates: list[tuple[np.ndarray, int]], factor: int) -> None:
    scaled = [(model, weight * factor) for model, weight in updates]
    assert np.allclose(mean_of(updates), mean_of(scaled), rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e38])
def test_a_number_that_would_spoil_the_mean_is_refused_with_the_tensors_name(bad: float) -> None:
    tensors = {"first": np.zeros(40_000, np.float32), "second": np.zeros(40_000, np.float32)}
    tensors["second"][39_999] = bad
    layout = layout_of(tensors)
    update = bytearray(layout.size)
    write_arrays(layout, tensors, update)

    with pytest.raises(UpdateRefused, match="'second'"):
        check_update(layout, WeightedMean(layout).spans, update)


def test_another_length_or_weight_is_refused() -> None:
    mean = WeightedMean(LAYOUT)
    for data, weight in ((bytes(SIZE * 4 + 1), 1), (bytes(SIZE * 4), 0), (bytes(SIZE * 4), float("nan"))):
        with pytest.raises(UpdateRefused):
            mean.add(data, weight)
    with pytest.raises(UpdateRefused, match="no updates"):
        mean.result_into(bytearray(SIZE * 4))


def test_every_dtype_has_its_mean_and_counters_keep_the_largest() -> None:
    layout = Layout(
        [TensorSpec(name, name, (3,)) for name in ("F64", "F32", "F16", "BF16", "I64", "U8")]
        + [TensorSpec("BOOL", "BOOL", (1,))]
    )
    mean, result = WeightedMean(layout), bytearray(layout.size)
    for value, weight in ((1, 1), (4, 2)):
        update = bytearray(layout.size)
        for name, view in views(layout, update).items():
            view[:] = np.float32(value).view(np.uint32) >> 16 if name == "BF16" else value
        check_update(layout, mean.spans, update)
        mean.add(update, weight)
    mean.result_into(result)
    seen = views(layout, result)

    assert [seen[name].tolist() for name in ("F64", "F32", "F16", "I64", "U8")] == [[3] * 3] * 3 + [[4] * 3] * 2
    assert (seen["BF16"].astype(np.uint32) << 16).view(np.float32).tolist() == [3] * 3
    assert seen["BOOL"].tolist() == [True]


def test_blocks_meet_without_a_seam() -> None:
    size = 3 * 32_768 + 17
    layout = Layout([TensorSpec("w", "F32", (size,))])
    one, two = np.arange(size, dtype=np.float32), np.ones(size, np.float32)
    results = []
    for order in itertools.permutations([(one, 1), (two, 3)]):
        mean, result = WeightedMean(layout), bytearray(layout.size)
        for model, weight in order:
            mean.add(model.tobytes(), weight)
        mean.result_into(result)
        results.append(np.frombuffer(result, np.float32))
    for found in results:
        assert np.allclose(found, (one + 3) / 4, rtol=1e-6)
