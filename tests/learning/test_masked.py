"""Vectors under masks and back: the weighted mean of what was learned, whatever the masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from grid.learning.layouts import MASKED_METRICS, upload_layout
from grid.learning.masked import RingSum, Vectors
from grid.learning.masking import mask
from grid.learning.said import Own
from grid.learning.strategy import PRESETS, Masked, Strategy, noised, travelling, validated
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


def test_it_takes_four_bytes_a_number_and_none_for_counters() -> None:
    counting = Layout([*LAYOUT.specs, TensorSpec("seen", "I64", ())])

    assert upload_layout(LAYOUT, STRATEGY).size == 4 * (NUMBERS + MASKED_METRICS)
    assert upload_layout(counting, STRATEGY).size == 4 * (NUMBERS + MASKED_METRICS)


def test_a_counter_stays_as_it_came_while_the_rest_is_averaged() -> None:
    layout = Layout([TensorSpec("seen", "I64", ()), TensorSpec("w", "F32", (2,))])
    before, after = (np.int64(seen).tobytes() + np.float32([w, w]).tobytes() for seen, w in ((7, 0.5), (99, 1.0)))
    vectors, total, target = Vectors(STRATEGY, layout, (), 0, 3), RingSum(2 + MASKED_METRICS), bytearray(layout.size)
    for at in range(3):
        vector = vectors.vector(memoryview(before), memoryview(after), Own(16_384, 0.0), np.random.default_rng(at))
        total.add(memoryview(vector.tobytes()))

    vectors.unfold(total.lifted((), ()), 3, memoryview(before), memoryview(target))

    assert np.frombuffer(target, np.int64, 1)[0] == 7
    np.testing.assert_allclose(np.frombuffer(target, np.float32, 2, 8), 1.0, atol=1e-6)


# --- noise ------------------------------------------------------------------------------------------

WIDE = Layout([TensorSpec("w", "F32", (200_000,))])


def noisy_vectors(
    clip: float, noise: float, nodes: int, least: int, quantile: float = 0.0, now: float = 0.0
) -> tuple[np.ndarray, object]:
    """What the sum of nodes says that each learned (5, 0, 0, ...), which is far longer than the clip."""
    strategy = noised(STRATEGY, clip, noise, least, quantile)
    vectors, before = Vectors(strategy, WIDE, (), 0, nodes, now), bytes(WIDE.size)
    after = np.zeros(200_000, np.float32)
    after[0] = 5.0
    total = RingSum(vectors.numbers)
    for at in range(nodes):
        own, seed = Own(10 + at, 3.0, 5, ()), bytes([at + 1]) * 16
        vector = vectors.vector(memoryview(before), memoryview(after.tobytes()), own, np.random.default_rng(at), seed)
        total.add(memoryview(vector.tobytes()))
    target = memoryview(bytearray(WIDE.size))
    said = vectors.unfold(total.lifted((), ()), nodes, memoryview(before), target)
    return np.frombuffer(target, np.float32) * nodes, said


@pytest.mark.parametrize(("nodes", "least"), [(3, 3), (5, 5), (8, 4)])
def test_the_sum_has_the_noise_that_was_promised_with_as_few_nodes_as_allowed_and_more_with_more(
    nodes: int, least: int
) -> None:
    total, _ = noisy_vectors(clip=0.5, noise=2.0, nodes=nodes, least=least)

    assert total[0] == pytest.approx(nodes * 0.5, abs=6 * math.sqrt(nodes / least))
    assert total[1:].std() == pytest.approx(0.5 * 2.0 * math.sqrt(nodes / least), rel=0.02)


def test_what_a_node_learned_is_scaled_down_to_the_clip_and_less_is_left_as_it_is() -> None:
    total, _ = noisy_vectors(clip=0.5, noise=1e-6, nodes=3, least=3)
    whole, _ = noisy_vectors(clip=6.0, noise=1e-6, nodes=3, least=3)

    assert total[0] == pytest.approx(1.5, abs=1e-3)
    assert whole[0] == pytest.approx(15.0, abs=1e-3)


def test_under_noise_nobody_says_how_much_it_has_or_how_it_did() -> None:
    _, said = noisy_vectors(clip=0.5, noise=1.0, nodes=4, least=3)

    assert (said.examples, said.loss, said.held_out, said.metrics) == (4.0, pytest.approx(0.0, abs=1e-3), 0.0, ())


@pytest.mark.parametrize(("now", "within"), [(0.5, 0.0), (4.9, 0.0), (5.1, 1.0), (20.0, 1.0)])
def test_the_share_of_nodes_within_the_clip_of_the_round_is_told(now: float, within: float) -> None:
    total, said = noisy_vectors(clip=0.5, noise=1e-3, nodes=5, least=3, quantile=0.5, now=now)

    assert said.inside == pytest.approx(within, abs=0.01)
    assert total[0] == pytest.approx(5 * min(now, 5.0), abs=0.1)
    assert total[1:].std() == pytest.approx(now * 1e-3 * math.sqrt(5 / 3 / 0.9), rel=0.02)


def test_the_share_of_nodes_within_the_clip_is_noised_as_well() -> None:
    rule = noised(STRATEGY, 0.5, 2.0, 3, 0.5).upload
    shares = [noised_share(seed) for seed in range(400)]

    assert np.mean(shares) == pytest.approx(0.0, abs=5 * rule.share_noise / 3 / 20)
    assert np.std(shares) == pytest.approx(rule.share_noise / 3, rel=0.15)


def noised_share(seed: int) -> float:
    """The share that three nodes say were within a clip that none of them was within."""
    layout = Layout([TensorSpec("w", "F32", (1,))])
    vectors = Vectors(noised(STRATEGY, 0.5, 2.0, 3, 0.5), layout, (), 0, 3)
    after, before, total = memoryview(np.float32([5.0]).tobytes()), memoryview(bytes(4)), RingSum(vectors.numbers)
    for at in range(3):
        drawn = (3 * seed + at).to_bytes(16, "big")
        total.add(memoryview(vectors.vector(before, after, Own(1, 0.0), np.random.default_rng(at), drawn).tobytes()))
    return vectors.unfold(total.lifted((), ()), 3, before, memoryview(bytearray(4))).inside


def test_noise_is_not_cut_by_the_bound() -> None:
    for noise in (0.1, 1.0, 30.0):
        rule = noised(STRATEGY, 1.0, noise, 3).upload
        assert rule.bound >= 1.0 + 8 * noise / math.sqrt(3)
    with pytest.raises(StrategyRefused, match="would cut"):
        validated(replace(STRATEGY, upload=Masked(bound=4.0, clip=1.0, noise=10.0)))
    with pytest.raises(StrategyRefused, match="needs a clip"):
        validated(replace(STRATEGY, upload=Masked(quantile=0.5)))


@pytest.mark.parametrize(("clip", "noise"), [(0.0, 1.0), (1.0, 0.0), (-1.0, 1.0), (1.0, 1e-155)])
def test_clip_and_noise_go_together_and_noise_hides_something(clip: float, noise: float) -> None:
    with pytest.raises(StrategyRefused):
        noised(STRATEGY, clip, noise, 3)
