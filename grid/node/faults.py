"""Named places at which a test may have this process killed, to see that nothing is lost there.

`GRID_FAULT=name` in the environment, read once at the start, ends the process by SIGKILL the first time that
it comes to `point(name)`; `name:3` the third time. Without it `point` does nothing.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

POINTS = (
    "before-update-file",
    "after-update-file",
    "after-update-row",
    "after-fold",
    "before-checkpoint",
    "after-checkpoint",
    "after-round-closed",
    "before-round-opened",
    "after-round-opened",
    "after-model",
    "before-fit",
    "after-fit",
    "after-finished-file",
    "after-finished-row",
    "after-upload",
    "after-counted-row",
)
"""In the order in which a round passes them: the coordinator's, then the participant's."""


def die() -> None:
    """As a machine loses its power: nothing of the process is left to tidy up."""
    os.kill(os.getpid(), signal.SIGKILL)


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


point: Callable[[str], None] = trap(os.environ["GRID_FAULT"]) if os.environ.get("GRID_FAULT") else nothing
"""Says that a point is reached."""
