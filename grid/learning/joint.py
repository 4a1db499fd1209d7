"""Several apps of one device learn together: what they hand to each other there, and the one update that leaves it.

Source: Katevas et al. 2022, arXiv:2206.10963: a service on the device merges the samples of its apps, or their models.
A mean on the device, weighted by samples, under a mean of devices, weighted likewise, is the mean of all apps
(`WeightedMean` both times): for the model it makes no difference how many of a device's apps train by themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import NamedTuple, TypeVar

from grid.learning.aggregation import WeightedMean
from grid.learning.arrays import Buffer
from grid.learning.tensors import Layout

App = TypeVar("App")

Fit = Callable[[Buffer, Sequence[App]], Buffer]
"""Trains a model (data section in, data section out) on the samples of these apps together."""


class Mode(StrEnum):
    """Baseline: one app has all samples. Joint samples: apps hand theirs to the service. Joint models: they train."""

    BASELINE = "BASELINE"
    JOINT_SAMPLES = "JOINT_SAMPLES"
    JOINT_MODELS = "JOINT_MODELS"


class Learned(NamedTuple):
    """A device's update: the data section of its model, and from how many samples it was learned."""

    model: Buffer
    samples: int


def learn_jointly(
    mode: Mode, layout: Layout, model: Buffer, apps: Sequence[App], fit: Fit[App], samples: Callable[[App], int]
) -> Learned:
    """What a device makes of a round's `model`, a data section of `layout`; `samples` says how many an app has.

    Raises:
        UpdateRefused: there is no app, or one of them has no samples.
    """
    total = sum(map(samples, apps))
    if mode != Mode.JOINT_MODELS:
        return Learned(fit(model, apps), total)
    mean = WeightedMean(layout)
    for app in apps:
        mean.add(fit(model, [app]), float(samples(app)))
    joint = bytearray(layout.size)
    mean.result_into(joint)
    return Learned(joint, total)
