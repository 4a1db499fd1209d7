"""Memories that let each thing happen once: nonces of signed statements, counters of a session."""

from __future__ import annotations

from grid.crypto.errors import NoncesFull, Replayed

WINDOW = 120.0
"""Seconds: a statement may be up to CLOCK_SKEW early when it comes and is refused CLOCK_SKEW after its time."""


class NonceCache:
    """Refuses a nonce that it has seen in the last `window` seconds; remembers at most `capacity` of them.

    When it is full it refuses new ones. Dropping old ones instead would let whoever can fill it replay them.
    """

    def __init__(self, window: float = WINDOW, capacity: int = 65_536) -> None:
        self._window, self._capacity = window, capacity
        self._seen: dict[bytes, float] = {}  # nonce: when it came; in the order they came

    def __len__(self) -> int:
        return len(self._seen)

    def remember(self, nonce: bytes, now: float) -> None:
        """Take a nonce. Raises Replayed for one it holds, NoncesFull when it can hold no more."""
        self._forget(now - self._window)
        if nonce in self._seen:
            raise Replayed("this nonce was used before")
        if len(self._seen) >= self._capacity:
            raise NoncesFull(f"{self._capacity} nonces within {self._window:.0f} seconds")
        self._seen[nonce] = now

    def _forget(self, before: float) -> None:
        # Only from the front: after a clock was set back, nothing is forgotten before what came earlier.
        while self._seen:
            oldest = next(iter(self._seen))
            if self._seen[oldest] >= before:
                return
            del self._seen[oldest]


class ReplayWindow:
    """Accepts each counter once, in any order within the last `size` of them (as RFC 4303, appendix A2)."""

    def __init__(self, size: int = 1024) -> None:
        self._size, self._mask = size, (1 << size) - 1
        self._top = -1  # the highest counter so far
        self._seen = 0  # bit i: counter top - i was accepted

    def accept(self, counter: int) -> bool:
        """Whether `counter` (>= 0) is new; false for one seen before or too old to tell."""
        ahead = counter - self._top
        if ahead > 0:
            # Never shift by what a caller wrote: 2**63 places are 2**60 bytes.
            self._seen = (self._seen << ahead | 1) & self._mask if ahead < self._size else 1
            self._top = counter
            return True
        bit = 1 << -ahead if -ahead < self._size else 0
        if counter < 0 or not bit or self._seen & bit:
            return False
        self._seen |= bit
        return True
