"""Who is due when: one heap for all members in place of a timer or task for each."""

from __future__ import annotations

from heapq import heappop, heappush
from math import inf


class Schedule:
    """Times (UTC seconds) at which ids are due. An id has one time: a new one replaces the old."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str]] = []
        self._due: dict[str, float] = {}

    def put(self, node_id: str, at: float) -> None:
        """Let `node_id` be due at `at`."""
        if self._due.get(node_id) != at:
            self._due[node_id] = at
            heappush(self._heap, (at, node_id))

    def no_later(self, node_id: str, at: float) -> None:
        """Let `node_id` be due at `at`, unless it is due before."""
        if at < self._due.get(node_id, inf):
            self.put(node_id, at)

    def drop(self, node_id: str) -> None:
        """`node_id` is no longer due at all."""
        self._due.pop(node_id, None)

    def next(self) -> float:
        """When the next id is due; infinity if none is."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heappop(self._heap)
        return self._heap[0][0] if self._heap else inf

    def take(self, now: float, most: int | None = None) -> list[str]:
        """Those that are due, the longest overdue first; they are no longer scheduled. At most `most`."""
        taken: list[str] = []
        while self._heap and self._heap[0][0] <= now and (most is None or len(taken) < most):
            at, node_id = heappop(self._heap)
            if self._due.get(node_id) == at:  # else it was put elsewhere or dropped since
                del self._due[node_id]
                taken.append(node_id)
        return taken

    def __len__(self) -> int:
        return len(self._due)
