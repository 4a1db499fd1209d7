"""Named places at which a test may have a process killed, to see that nothing is lost there.

`GRID_FAULT=name` in the environment, read once at the start, ends the process by SIGKILL the first time that
it comes to `point(name)`; `name:3` the third time. Without it `point` does nothing. It imports nothing of the grid,
so that every room may name its points.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

SETTING = "GRID_FAULT"

COORDINATOR = (
    "before-update-file",
    "after-update-file",
    "after-update-row",
    "after-fold",
    "before-checkpoint",
    "after-checkpoint",
    "after-round-closed",
    "before-round-opened",
    "after-round-opened",
    "after-report-row",
)
SPARE = ("before-spare-row", "after-change-row", "after-spare-row")
PARTICIPANT = (
    "after-model",
    "before-fit",
    "after-fit",
    "after-finished-file",
    "after-finished-row",
    "after-upload",
    "after-counted-row",
)
WORKER = ("worker-before-fit", "worker-after-fit", "worker-check", "worker-fold", "worker-result")
GATEWAY = ("before-join-row", "after-join-row", "before-lease-row", "after-lease-row")
RUN = COORDINATOR + SPARE + PARTICIPANT + WORKER + GATEWAY
"""Each process's, in the order in which it passes them. `SPARE`: a coordinator's, where a node is drawn for a lost one.
A worker's first two are at a participant."""

TASK = ("before-task-file", "after-task-file", "after-task-row", "after-task-sum", "after-task-summed")
"""Of a node with a task for devices: as an update comes in, and as they are summed."""

ANSWER = ("worker-before-answer", "worker-after-answer")
"""Of a worker that a hosted model answers in."""

POINTS = RUN + TASK + ANSWER


def die() -> None:
    """As a machine loses its power: nothing of the process is left to tidy up."""
    signal.raise_signal(signal.SIGKILL)  # to oneself: a sandbox allows no other


def trap(setting: str, strike: Callable[[], None] = die) -> Callable[[str], None]:
    """What `point` is under a setting of `GRID_FAULT`.

    Raises:
        ValueError: no point has this name.
    """
    name, _, count = setting.partition(":")
    if name not in POINTS:
        raise ValueError(f"GRID_FAULT names no point: {name!r}")
    left = int(count or 1)

    def point(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                strike()

    return point


def nothing(reached: str) -> None:
    """No fault is wanted."""


_set: Callable[[str], None] = trap(os.environ[SETTING]) if os.environ.get(SETTING) else nothing


def point(reached: str) -> None:
    """Says that a point is reached."""
    _set(reached)


def disarm() -> None:
    """The fault has struck a process that was forked from this one: those that are forked from now on are spared."""
    global _set  # noqa: PLW0603 - one process, one fault
    _set = nothing
