"""A loop on which no time is lost: where all wait, its clock jumps to the next timer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class WarpLoop(asyncio.SelectorEventLoop):
    """For code without sockets and threads: what it waits for would be missed by a jump."""

    now = 0.0

    def time(self) -> float:
        """Seconds since the beginning; they pass only where all wait."""
        return self.now

    def _run_once(self) -> None:
        if not self._ready:  # type: ignore[attr-defined]
            timers = [each.when() for each in self._scheduled if not each.cancelled()]  # type: ignore[attr-defined]
            self.now = max(self.now, min(timers, default=self.now))
        super()._run_once()  # type: ignore[misc]


def warped(story: Coroutine[Any, Any, T]) -> T:
    """Run a story on such a loop."""
    with asyncio.Runner(loop_factory=WarpLoop) as runner:
        return runner.run(story)


def loop_time() -> float:
    """Now, on the loop."""
    return asyncio.get_running_loop().time()
