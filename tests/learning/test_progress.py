"""How a training tells how far it is."""

from __future__ import annotations

import math
from typing import Any

from grid.learning.progress import Reporter


def reports(losses: list[float], seconds: float, every: float = 1.0) -> list[dict[str, Any]]:
    """What is told of steps that take `seconds` each, in epochs of two steps."""
    told: list[dict[str, Any]] = []
    at = [0.0]
    reporter = Reporter(told.append, 2, now=lambda: at[0], every=every)
    for step, loss in enumerate(losses, 1):
        reporter(step, len(losses), loss)
        at[0] += seconds
    return told


def test_the_first_step_is_told_at_once_and_then_one_in_a_while_with_the_mean_since() -> None:
    told = reports([8.0, 4.0, 2.0, 1.0, 0.5], seconds=0.5)

    assert told == [
        {"step": 1, "steps": 5, "epoch": 1, "loss": 8.0},
        {"step": 3, "steps": 5, "epoch": 2, "loss": 3.0},
        {"step": 5, "steps": 5, "epoch": 3, "loss": 0.75},
    ]


def test_however_fast_the_steps_are_the_reports_are_few() -> None:
    assert len(reports([1.0] * 100_000, seconds=1e-5)) == 1
    assert len(reports([1.0] * 1_000, seconds=0.01)) == 10


def test_a_loss_that_is_no_number_is_left_out() -> None:
    assert reports([math.nan, math.inf], seconds=2.0) == [
        {"step": 1, "steps": 2, "epoch": 1},
        {"step": 2, "steps": 2, "epoch": 1},
    ]
