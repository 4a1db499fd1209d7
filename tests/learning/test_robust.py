"""Robust rules against naive versions in float64, and against liars."""

from __future__ import annotations

import tracemalloc
from itertools import combinations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from grid.learning.arrays import views
from grid.learning.folding import Folding, Place
from grid.learning.strategy import PRESETS, GeometricMedian, Momentum, MultiKrum, Strategy, TrimmedMean, named
from grid.learning.tensors import Layout, TensorSpec
from grid.learning.weighing import Told
from tests.learning.oracle import SIZE, Played, Vector, lists, played, vectors

RNG = np.random.default_rng(11)
NOBODY = np.zeros(SIZE)
ROBUST = {name: strategy for name, strategy in PRESETS.items() if strategy.holds_updates}


def random_updates(count: int) -> list[Vector]:
    return list(RNG.standard_normal((count, SIZE)).astype(np.float32))


def naive_krum(updates: list[Vector], liars: int, near: int | None = None) -> list[int]:
    """Indexes, best score first."""
    near = len(updates) - liars - 2 if near is None else near
    scores = []
    for i, one in enumerate(updates):
        apart = sorted(float(np.sum((one.astype(float) - two) ** 2)) for j, two in enumerate(updates) if i != j)
        scores.append((sum(apart[:near]), sum(apart), i))
    return [i for *_, i in sorted(scores)]


def naive_bulyan(updates: list[Vector], liars: int) -> Vector:
    rest, chosen = list(updates), []
    for _ in range(len(updates) - 2 * liars):
        best = naive_krum(rest, liars, max(1, len(rest) - liars - 2))[0]
        chosen.append(rest.pop(best))
    kept = len(chosen) - 2 * liars
    columns = []
    for column in np.array(chosen, float).T:
        nearest = sorted(column, key=lambda value: abs(value - np.median(column)))
        columns.append(np.mean(nearest[:kept]))
    return np.array(columns)


def near(found: Vector, expected: Vector) -> bool:
    return bool(np.allclose(found, expected, rtol=1e-5, atol=1e-6))


# --- oracles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_the_median_is_numpys(count: int) -> None:
    updates = random_updates(count)

    assert near(played(PRESETS["median"], NOBODY, updates), np.median(updates, axis=0))


@pytest.mark.parametrize(("trim", "count", "cut"), [(0.2, 5, 1), (0.29, 100, 29), (0.4, 8, 3)])
def test_the_trimmed_mean_leaves_out_a_share_at_either_end(trim: float, count: int, cut: int) -> None:
    updates = random_updates(count)
    expected = np.sort(np.array(updates, float), axis=0)[cut : count - cut].mean(axis=0)

    assert near(played(Strategy(aggregation=TrimmedMean(trim)), NOBODY, updates), expected)


@pytest.mark.parametrize(("count", "liars"), [(5, 1), (7, 2), (9, 1), (3, 0)])
def test_krum_takes_the_update_with_the_best_score_bit_for_bit(count: int, liars: int) -> None:
    updates = random_updates(count)

    assert (played(named("krum", liars=liars), NOBODY, updates) == updates[naive_krum(updates, liars)[0]]).all()


@pytest.mark.parametrize(("kept", "taken"), [(0, 6), (3, 3)])
def test_multi_krum_averages_the_best(kept: int, taken: int) -> None:
    updates = random_updates(9)
    best = naive_krum(updates, 1)[:taken]

    found = played(Strategy(aggregation=MultiKrum(1, kept)), NOBODY, updates)
    assert near(found, np.mean([updates[i] for i in best], axis=0))


@pytest.mark.parametrize(("count", "liars"), [(7, 1), (11, 2), (12, 2), (4, 0)])
def test_bulyan_is_krum_again_and_again_and_then_a_mean_around_the_median(count: int, liars: int) -> None:
    updates = random_updates(count)

    assert near(played(named("bulyan", liars=liars), NOBODY, updates), naive_bulyan(updates, liars))


def test_the_geometric_median_has_no_way_downhill() -> None:
    updates = random_updates(7)
    found = played(named("geometric-median", iterations=100), NOBODY, updates).astype(float)
    pulls = [(w - found) / np.linalg.norm(w - found) for w in updates]

    assert np.linalg.norm(np.sum(pulls, axis=0)) < 1e-3  # the gradient of the sum of distances


def test_the_geometric_median_can_be_weighted_by_examples() -> None:
    strategy = Strategy(aggregation=GeometricMedian(weight="examples", iterations=50))
    updates = random_updates(3)

    assert near(played(strategy, NOBODY, updates, [Told(1), Told(1), Told(100)]), updates[2])


def test_a_robust_aggregate_can_go_through_a_server_optimizer() -> None:
    w, updates = random_updates(1)[0], random_updates(5)
    strategy = Strategy(aggregation=PRESETS["median"].aggregation, server=Momentum(lr=0.5))

    assert near(played(strategy, w, updates), w + 0.5 * (np.median(updates, axis=0) - w))


# --- liars -----------------------------------------------------------------------------------------

LIES = st.sampled_from([1e15, -1e15, 1e9, -3.0, 0.3, 1e-3])


@given(lists(5, 7), lists(1, 2), LIES, st.booleans())
@settings(max_examples=80, deadline=None)
def test_the_median_stays_between_honest_numbers(
    honest: list[Vector], lies: list[Vector], size: float, first: bool
) -> None:
    liars = [np.clip(lie * size + size, -1e15, 1e15) for lie in lies]
    found = played(PRESETS["median"], NOBODY, [*liars, *honest] if first else [*honest, *liars])

    assert (found >= np.min(honest, axis=0)).all()
    assert (found <= np.max(honest, axis=0)).all()


@given(lists(8, 8), lists(2, 2), LIES)
@settings(max_examples=80, deadline=None)
def test_a_trimmed_mean_stays_between_honest_numbers(honest: list[Vector], lies: list[Vector], size: float) -> None:
    liars = [np.clip(lie * size + size, -1e15, 1e15) for lie in lies]
    found = played(PRESETS["trimmed-mean"], NOBODY, [*liars, *honest])
    low, high = np.min(honest, axis=0), np.max(honest, axis=0)

    assert (found >= low - 1e-4 * np.abs(low)).all()
    assert (found <= high + 1e-4 * np.abs(high)).all()


@given(lists(9, 9), lists(2, 2), LIES)
@settings(max_examples=80, deadline=None)
def test_bulyan_stays_as_near_as_honest_numbers_are_to_each_other(
    honest: list[Vector], lies: list[Vector], size: float
) -> None:
    """Of those around the median, which is honest, more are honest than are kept: none is farther than they are."""
    liars = [np.clip(lie * size + size, -1e15, 1e15) for lie in lies]
    found = played(named("bulyan", liars=2), NOBODY, [*liars, *honest])
    low, high = np.min(honest, axis=0), np.max(honest, axis=0)

    assert (found >= low - (high - low) - 1e-3).all()
    assert (found <= high + (high - low) + 1e-3).all()


@pytest.mark.parametrize("lie", [1e15, -1e15, 1e6, 30.0])
@pytest.mark.parametrize("name", ["krum", "multi-krum", "geometric-median", "bulyan", "median", "trimmed-mean"])
def test_liars_who_agree_do_not_move_the_result_out_of_the_honest(name: str, lie: float) -> None:
    honest = random_updates(9)
    liars = [np.full(SIZE, lie) + RNG.standard_normal(SIZE) * 1e-3 for _ in range(2)]
    strategy = named(name, liars=2) if hasattr(PRESETS[name].aggregation, "liars") else PRESETS[name]
    found = played(strategy, NOBODY, [*liars[:1], *honest, *liars[1:]])
    farthest = max(np.linalg.norm(a - b) for a, b in combinations(honest, 2))

    assert np.linalg.norm(found - np.mean(honest, axis=0)) < farthest


def test_the_mean_is_moved_by_a_single_liar() -> None:
    assert np.abs(played(PRESETS["fedavg"], NOBODY, [*random_updates(9), np.full(SIZE, 1e6)])).min() > 1e4


def test_a_liar_who_claims_many_examples_is_one_among_others() -> None:
    updates = [*random_updates(6), np.full(SIZE, 1e3)]
    told = [Told(1)] * 6 + [Told(1e9)]
    for name in ROBUST:
        assert np.abs(played(PRESETS[name], NOBODY, updates, told)).max() < 10, name


# --- properties --------------------------------------------------------------------------------------


@given(st.sampled_from(sorted(ROBUST)), lists(7), st.permutations(range(9)))
@settings(max_examples=80, deadline=None)
def test_the_order_of_arrival_does_not_matter(name: str, updates: list[Vector], order: list[int]) -> None:
    distances = [float(np.sum((a - b) ** 2)) for a, b in combinations(updates, 2)]
    assume(len(set(distances)) == len(distances))  # a tie has to be broken somehow
    mixed = [updates[place] for place in order if place < len(updates)]

    assert near(played(ROBUST[name], NOBODY, updates), played(ROBUST[name], NOBODY, mixed))


@given(st.sampled_from(sorted(ROBUST)), lists(7), st.sampled_from([0.25, 2.0, 16.0]), vectors)
@settings(max_examples=80, deadline=None)
def test_scaled_and_moved_models_give_a_scaled_and_moved_result(
    name: str, updates: list[Vector], factor: float, by: Vector
) -> None:
    one = played(ROBUST[name], NOBODY, updates)
    two = played(ROBUST[name], NOBODY, [update * factor + by for update in updates])

    assert np.allclose(two, one * factor + by, rtol=1e-4, atol=1e-3 * factor)


@given(st.sampled_from(sorted(ROBUST)), vectors, st.integers(7, 9))
@settings(deadline=None)
def test_who_all_agree_are_right(name: str, update: Vector, count: int) -> None:
    assert near(played(ROBUST[name], NOBODY, [update] * count), update)


# --- blocks, dtypes, memory ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ROBUST))
def test_a_small_budget_gives_the_same_in_many_blocks(name: str) -> None:
    layout = Layout([TensorSpec("w", "F32", (300,)), TensorSpec("b", "F64", (7,))])
    updates = []
    for _ in range(8):
        updates.append(data := memoryview(bytearray(layout.size)))
        for view in views(layout, data).values():
            view[:] = RNG.standard_normal(view.shape)
    results = []
    for budget in (1 << 20, 8 * (2 * 8 + 10) * 5):
        folding = Folding(PRESETS[name], layout, Place(memoryview(bytearray(layout.size)), budget=budget))
        for data in updates:
            folding.fold(data, Told(1))
        folding.result()
        results.append(np.concatenate(list(views(layout, folding._outbox).values())))

    assert np.allclose(*results, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(ROBUST))
def test_counters_and_statistics_of_a_liar_are_no_better_than_its_parameters(name: str) -> None:
    layout = Layout([TensorSpec("w", "F32", (4,)), TensorSpec("mean", "F16", (2,)), TensorSpec("seen", "I64", (1,))])
    folding = Folding(PRESETS[name], layout, Place(memoryview(bytearray(layout.size))), ["mean"])
    for number in range(7):
        data = memoryview(bytearray(layout.size))
        seen = views(layout, data)
        liar = number == 3
        seen["w"][:] = 1e12 if liar else RNG.standard_normal(4)
        seen["mean"][:], seen["seen"][:] = (6e4, 1 << 62) if liar else (number, 10 + number)
        folding.fold(data, Told(1))
    folding.result()
    found = views(layout, folding._outbox)

    assert found["mean"].max() <= 6
    assert 10 <= found["seen"][0] <= 16


def test_the_budget_bounds_what_a_robust_rule_works_in() -> None:
    layout, budget = Layout([TensorSpec("w", "F32", (1 << 19,))]), 1 << 20
    for name in sorted(ROBUST):
        server = Played(PRESETS[name], layout, budget)
        server.folding.begin()
        for _ in range(12):
            server.folding.fold(memoryview(RNG.standard_normal(1 << 19, np.float32)).cast("B"), Told(1))
        tracemalloc.start()
        server.folding.result()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.2 * budget, name
