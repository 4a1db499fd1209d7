"""Where a run and its present round stand: the machines of `protocol`, and the one who waits for what they come to."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from grid.node.pulse import Pulse
from grid.protocol import round as rounds
from grid.protocol import run as runs
from grid.wire.problems import RoundClosed, RunRefused

REMEMBERED = 64
"""Rounds of which it is known when and why they closed."""

_OPEN = frozenset({rounds.WAITING, rounds.COLLECTING})

Change = rounds.SpareDrawn | rounds.NodeFailed | rounds.UpdateRejected | rounds.NodeCommitted
"""What becomes of a node in an open round, besides an update that is counted; committed: it is back."""


class Course:
    """Runs the machines; every change beats the `pulse`. Whoever changes something writes it down.

    `losing` is called before a round loses a node, `lost` with that node afterwards. `owed` is what became of the
    round's nodes and is not written down yet, in the order in which it happened.
    """

    def __init__(self, run: runs.Run, now: Callable[[], float]) -> None:
        self.run, self._now = run, now
        self.round: rounds.Round | None = None
        self.losing: Callable[[rounds.NodeFailed | rounds.UpdateRejected], None] = lambda event: None
        self.lost: Callable[[str], None] = lambda node: None
        self.owed: list[Change] = []
        self._closed: dict[int, tuple[float, str]] = {}
        self.pulse = Pulse()

    @property
    def the_round(self) -> rounds.Round:
        """The newest round."""
        if self.round is None:
            raise RunRefused("no round was opened yet")
        return self.round

    @property
    def state(self) -> rounds.State:
        """Where the newest round stands."""
        return self.the_round.state

    def advance(self, event: object) -> None:
        """The one way in which the run changes. What comes next writes it down."""
        self.run, _ = runs.advance(self.run, event)

    def apply(self, event: object) -> None:
        """The one way in which the round changes."""
        if isinstance(event, rounds.NodeFailed | rounds.UpdateRejected):
            self.losing(event)
        before = self.the_round
        self.round, effects = rounds.advance(before, event)
        self._owe(before, event)
        if before.state in _OPEN and self.state not in _OPEN:
            self._closed[self.round.number] = self._now(), rounds.why_closed(self.round)
            self._closed.pop(self.round.number - REMEMBERED, None)
        for effect in effects:
            if isinstance(effect, rounds.WakeAt):
                self.wake_at(effect.at)
        if isinstance(event, rounds.NodeFailed | rounds.UpdateRejected):
            self.lost(event.node)
        self.pulse.beat()

    def take_owed(self) -> list[Change]:
        """What is to be written down, all of it at once; spares only as long as the round takes updates."""
        owed, self.owed = self.owed, []
        return [each for each in owed if self.state in _OPEN or not isinstance(each, rounds.SpareDrawn)]

    def fail(self, key: str, reason: str) -> None:
        """No longer wait for a node in this round."""
        running = self.round is not None and rounds.ROUND.takes(self.round, rounds.NodeFailed)
        if running and key in self.the_round.invited:
            self.apply(rounds.NodeFailed(key, reason))

    @contextmanager
    def explaining(self, number: int) -> Iterator[None]:
        """A refusal because a round is closed says when that was, and why, as far as it is known."""
        try:
            yield
        except RoundClosed:
            if number not in self._closed:
                raise
            at, why = self._closed[number]
            clock = time.strftime("%H:%M:%S", time.gmtime(at))
            raise RoundClosed(f"round {number} closed {self._now() - at:.1f} s ago, at {clock} UTC: {why}") from None

    def wake_at(self, at: float) -> None:
        """The present stage of the round is over at this time (UTC seconds)."""
        self.pulse.ring(at - self._now(), self._ring)

    def _owe(self, before: rounds.Round, event: object) -> None:
        match event:
            case rounds.SpareDrawn() | rounds.UpdateRejected():
                self.owed.append(event)
            case rounds.NodeFailed(node=node) if node not in before.failed and node in self.the_round.failed:
                self.owed.append(event)
            case rounds.NodeCommitted(node=node) | rounds.UploadBegan(node=node) if node in before.failed:
                self.owed.append(rounds.NodeCommitted(node))

    def _ring(self) -> None:
        if self.round is not None and rounds.ROUND.takes(self.round, rounds.DeadlinePassed):
            self.apply(rounds.DeadlinePassed(max(self._now(), self.round.ends)))
