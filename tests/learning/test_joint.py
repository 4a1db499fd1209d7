"""L8: two levels of means are one mean, whatever the devices, their apps and their samples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.learning.aggregation import WeightedMean
from grid.learning.arrays import Buffer
from grid.learning.joint import Learned, Mode, learn_jointly
from grid.learning.tensors import Layout, TensorSpec
from grid.wire.problems import UpdateRefused

LAYOUT = Layout([TensorSpec("w", "F32", (3,)), TensorSpec("b", "F32", (1,))])
App = tuple[float, int]
"""Where an app's samples pull the model to, and how many there are."""
APPS = st.lists(st.tuples(st.floats(-100, 100), st.integers(1, 1000)), min_size=1, max_size=4)


def fit(model: Buffer, apps: Sequence[App]) -> bytes:
    """Half of the way to the mean of the samples."""
    goal = sum(value * count for value, count in apps) / sum(count for _, count in apps)
    return ((np.frombuffer(model, np.float32) + np.float32(goal)) / 2).astype(np.float32).tobytes()


def learned(mode: Mode, model: Buffer, apps: Sequence[App]) -> Learned:
    return learn_jointly(mode, LAYOUT, model, apps, fit, lambda app: app[1])


def mean(updates: Sequence[Learned]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    folded, made = WeightedMean(LAYOUT), bytearray(LAYOUT.size)
    for update in updates:
        folded.add(update.model, float(update.samples))
    folded.result_into(made)
    return np.frombuffer(bytes(made), np.float32)


@given(st.lists(APPS, min_size=1, max_size=5), st.floats(-10, 10))
def test_l8_joint_models_of_devices_are_the_flat_weighted_mean_of_all_apps(
    devices: list[list[App]], start: float
) -> None:
    model = np.full(4, start, np.float32).tobytes()

    twice = mean([learned(Mode.JOINT_MODELS, model, apps) for apps in devices])
    flat = mean([Learned(fit(model, [app]), app[1]) for apps in devices for app in apps])

    assert twice == pytest.approx(flat, rel=1e-4, abs=1e-4)


def test_l8_joint_samples_are_trained_on_as_one_apps_would_be() -> None:
    model, apps = bytes(16), [(1.0, 1), (4.0, 2)]

    together = learned(Mode.JOINT_SAMPLES, model, apps)

    assert together == learned(Mode.BASELINE, model, apps) == Learned(fit(model, apps), 3)
    assert np.frombuffer(together.model, np.float32) == pytest.approx([1.5] * 4)


def test_a_device_without_apps_has_no_joint_model() -> None:
    with pytest.raises(UpdateRefused):
        learned(Mode.JOINT_MODELS, bytes(16), [])
