"""Where a run and its present round stand: the machines of `protocol`, and the one who waits for what they come to."""

from __future__ import annotations

from collections.abc import Callable

from grid.node.pulse import Pulse
from grid.protocol import round as rounds
from grid.protocol import run as runs
from grid.wire.problems import RunRefused


class Course:
    """Runs the machines; every change beats the `pulse`. Whoever changes something writes it down."""

    def __init__(self, run: runs.Run, now: Callable[[], float]) -> None:
        self.run, self._now = run, now
        self.round: rounds.Round | None = None
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
        self.round, effects = rounds.advance(self.the_round, event)
        for effect in effects:
            if isinstance(effect, rounds.WakeAt):
                self.wake_at(effect.at)
        self.pulse.beat()

    def fail(self, key: str, reason: str) -> None:
        """No longer wait for a node in this round."""
        running = self.round is not None and rounds.ROUND.takes(self.round, rounds.NodeFailed)
        if running and key in self.the_round.invited:
            self.apply(rounds.NodeFailed(key, reason))

    def wake_at(self, at: float) -> None:
        """The present stage of the round is over at this time (UTC seconds)."""
        self.pulse.ring(at - self._now(), self._ring)

    def _ring(self) -> None:
        if self.round is not None and rounds.ROUND.takes(self.round, rounds.DeadlinePassed):
            self.apply(rounds.DeadlinePassed(max(self._now(), self.round.ends)))
