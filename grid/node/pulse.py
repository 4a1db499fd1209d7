"""How a run waits: woken by every change, by one timer, or by a stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Over(Exception):
    """The run was stopped."""


class Pulse:
    """Wakes the one who waits in `until`. `reason` says why the run was stopped, once it was."""

    def __init__(self) -> None:
        self._beat = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self.reason: str | None = None

    def beat(self) -> None:
        """Something changed."""
        self._beat.set()

    def stop(self, reason: str) -> None:
        """Whoever waits, now or later, is told that the run is over."""
        self.reason = reason
        self.beat()

    async def until(self, holds: Callable[[], bool], within: float | None = None) -> None:
        """Wait until something holds, at most `within` seconds. Raises Over when the run is stopped."""
        try:
            async with asyncio.timeout(within):
                while not holds():
                    if self.reason is not None:
                        raise Over
                    self._beat.clear()
                    await self._beat.wait()
        except TimeoutError:
            return

    def ring(self, delay: float, work: Callable[[], None]) -> None:
        """Call `work` after `delay` seconds, in place of what was to be called before."""
        self.close()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, delay), work)

    def close(self) -> None:
        """Nothing rings any more."""
        if self._timer is not None:
            self._timer.cancel()
