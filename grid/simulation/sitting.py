"""One round being played: its machine, and the shell that carries out what the machine asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from grid.protocol import round as rounds
from grid.protocol.round import (
    COLLECTING,
    COMPLETE,
    INVALID,
    ROUND,
    WAITING,
    Abandon,
    DeadlinePassed,
    Policy,
    Publish,
    Sum,
    SumReady,
    WakeAt,
)
from grid.simulation.clock import Clock
from grid.simulation.figures import Figures
from grid.simulation.learner import Learner
from grid.simulation.population import Population
from grid.simulation.scenario import Scenario


class Ground(NamedTuple):
    """What everything in one simulation stands on."""

    scenario: Scenario
    clock: Clock
    figures: Figures
    population: Population
    learner: Learner


class Sitting:
    """A round, and its timers. `closed` is called when no upload can begin any more, `ended` when all is over."""

    def __init__(
        self,
        ground: Ground,
        number: int,
        invited: frozenset[str],
        closed: Callable[[Sitting], None],
        ended: Callable[[Sitting], None],
    ) -> None:
        s = ground.scenario
        policy = Policy(quorum=s.quorum, target=s.goal, deadline=s.deadline, grace=s.grace)
        self.round = rounds.open_round(number, policy, invited, ground.clock.now)
        self._ground, self._closed, self._ended = ground, closed, ended
        ground.clock.at(self.round.ends, self._ring)

    @property
    def open(self) -> bool:
        """Whether an upload may begin."""
        return self.round.state in _OPEN

    @property
    def valid(self) -> bool:
        """Whether it counts, once it has ended."""
        return self.round.state == COMPLETE

    def tell(self, event: object) -> None:
        """Move the round by one event, and do what follows.

        Raises:
            GridError: the round's rules refuse the event; nothing has changed.
        """
        self._ground.figures.machine_events += 1
        was_open = self.round.state in _OPEN
        self.round, effects = rounds.advance(self.round, event)
        if was_open and self.round.state not in _OPEN:
            self._ground.figures.counted_at_close.append(len(self.round.accepted))
            self._closed(self)
        for effect in effects:
            self._carry_out(effect)

    def takes(self, event: type) -> bool:
        """Whether such an event can still happen to it."""
        return ROUND.takes(self.round, event)

    def _carry_out(self, effect: rounds.Effect) -> None:
        """Refused uploads need nothing: they find out when they arrive."""
        if isinstance(effect, WakeAt):
            self._ground.clock.at(effect.at, self._ring)
        elif isinstance(effect, Sum):
            self._ground.clock.after(self._ground.scenario.summing, self.tell, SumReady())
        elif isinstance(effect, Publish | Abandon):
            self._end()

    def _ring(self) -> None:
        if self.takes(DeadlinePassed):
            self.tell(DeadlinePassed(self._ground.clock.now))

    def _end(self) -> None:
        self._ground.figures.round_seconds.append(self._ground.clock.now - self.round.opened)
        self._ended(self)


_OPEN = frozenset({WAITING, COLLECTING})
assert ROUND.final(COMPLETE)
assert ROUND.final(INVALID)
