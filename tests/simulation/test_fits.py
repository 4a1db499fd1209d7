from __future__ import annotations

import numpy as np
import pytest
from msgspec.structs import replace

from grid.simulation.course import simulate
from grid.simulation.figures import ratios
from grid.simulation.fits import Fits, Task
from grid.simulation.scenario import SCENARIOS, Scenario


def test_a_nodes_examples_are_its_own_and_always_the_same() -> None:
    x, y = Fits(Task()).shard(5)
    again, other = Fits(Task()).shard(5), Fits(Task()).shard(6)

    assert x.shape == (32, 32)
    assert set(y) == {0.0, 1.0}
    assert np.array_equal(x, again[0])
    assert np.array_equal(y, again[1])
    assert not np.array_equal(x, other[0])


def test_one_step_of_a_fit_is_the_gradient_of_the_cross_entropy() -> None:
    fits = Fits(Task(steps=1, rate=1.0))
    x, y = fits.shard(3)
    model = np.linspace(-1, 1, 32, dtype=np.float32)

    def loss(weights: np.ndarray) -> float:
        z = x.astype(np.float64) @ weights
        return float(np.mean(np.logaddexp(0.0, z) - y * z))

    slope = [(loss(model + step) - loss(model - step)) / 2e-4 for step in np.eye(32) * 1e-4]
    assert np.allclose(fits.fit(model, 3), -np.array(slope), atol=1e-4)


def test_a_round_of_equal_nodes_moves_by_the_mean_of_their_changes() -> None:
    fits = Fits(Task())
    start = fits.model
    for node in range(4):
        fits.fold(start, node, examples=10, worth=1.0)
    fits.publish()

    mean = np.mean([Fits(Task()).fit(start, node) for node in range(4)], axis=0)
    assert np.allclose(fits.model - start, mean, atol=1e-6)
    assert not start.any()  # whoever had fetched it still has it


def test_changes_that_are_stale_make_a_shorter_step() -> None:
    fresh, stale = Fits(Task()), Fits(Task())
    for fits, worth in ((fresh, 1.0), (stale, 0.5)):
        fits.fold(fits.model, 1, examples=10, worth=worth)
        fits.publish()

    assert np.allclose(stale.model, 0.5 * fresh.model, atol=1e-7)


def test_what_is_discarded_changes_nothing() -> None:
    fits = Fits(Task())
    fits.fold(fits.model, 1, examples=10, worth=1.0)
    fits.discard()
    fits.publish()

    assert not fits.model.any()
    assert fits.loss() == pytest.approx(np.log(2), abs=1e-6)


def test_rounds_learn_and_end_when_enough_is_learned() -> None:
    f = simulate(Scenario(rounds=200), Fits(Task(loss=0.5)))

    assert f.learned
    assert f.completed == len(f.losses) < 200
    assert f.losses[-1] <= 0.5 < f.losses[0]


def test_to_the_same_loss_buffered_takes_less_time_and_fewer_bytes() -> None:
    modest = replace(SCENARIOS["papaya"][0], population=10_000, goal=200, drawn=260, quorum=100)

    synchronous = simulate(modest, Fits(Task(loss=0.45)))
    buffered = simulate(replace(modest, mode="buffered", goal=20, quorum=10, rounds=400), Fits(Task(loss=0.45)))

    found = ratios(synchronous, buffered)
    assert found["time for the loss"] > 3.0
    assert found["bytes for the loss"] > 2.0
