"""A run being played, round after round: synchronous, or buffered."""

from __future__ import annotations

import math
from collections.abc import Callable

from grid.protocol import run as runs
from grid.protocol.round import NodeCommitted
from grid.protocol.run import (
    FAILED,
    Finish,
    OpenRound,
    Prepared,
    RoundCollected,
    RoundCompleted,
    RoundInvalid,
    Run,
    Started,
)
from grid.simulation.chance import Fate, fates
from grid.simulation.clock import Clock
from grid.simulation.figures import Figures
from grid.simulation.learner import Learner, Nothing
from grid.simulation.part import Part
from grid.simulation.population import Population
from grid.simulation.scenario import Scenario, checked
from grid.simulation.sitting import Ground, Sitting

PATIENCE = 60.0
"""Seconds until it is looked again whether enough nodes are there."""


def simulate(scenario: Scenario, learner: Learner | None = None) -> Figures:
    """Play a scenario to its end: what came of it. The same scenario gives the same figures.

    Raises:
        RunRefused: the scenario contradicts itself.
    """
    scenario = checked(scenario)
    clock, figures = Clock(), Figures(scenario.name)
    population = Population(scenario, clock, figures)
    ground = Ground(scenario, clock, figures, population, learner or Nothing())
    population.grow()
    course = Synchronous(ground) if scenario.mode == "synchronous" else Buffered(ground)
    course.runs.begin()
    # Whoever came late to the last synchronous round belongs into the figures; buffered, all are under way for ever.
    clock.play(stop=lambda: course.runs.over and not course.streams)
    figures.under_way = course.under_way
    return figures


class Runs:
    """Runs one after the other until the rounds of the scenario are played: an invalid round ends a run."""

    def __init__(self, ground: Ground, open_round: Callable[[int], None]) -> None:
        self.over = False
        self._ground, self._open = ground, open_round
        self._left = ground.scenario.rounds

    def begin(self) -> None:
        """Start a run for the rounds that are left."""
        self._run = Run("simulated", self._left)
        self._ground.figures.runs += 1
        self._advance(Started())
        self._advance(Prepared())

    def ended(self, sitting: Sitting) -> None:
        """A round is over: its model is published, or it came to nothing."""
        figures, learner = self._ground.figures, self._ground.learner
        self._left -= 1
        figures.seconds = self._ground.clock.now
        if not sitting.valid:
            figures.invalid += 1
            learner.discard()
            return self._advance(RoundInvalid(self._run.current, sitting.round.reason))
        figures.completed += 1
        loss = learner.publish()
        figures.losses += [] if loss is None else [loss]
        self._advance(RoundCollected(self._run.current))
        return self._advance(RoundCompleted(self._run.current))

    def _advance(self, event: object) -> None:
        self._run, effects = runs.advance(self._run, event)
        self._ground.figures.machine_events += 1
        for effect in effects:
            if isinstance(effect, Finish):
                self._finish(again=effect.state == FAILED and self._left > 0)
            elif isinstance(effect, OpenRound) and self._ground.learner.done:
                self._ground.figures.learned = True
                self._finish(again=False)
            elif isinstance(effect, OpenRound):
                self._open(self._ground.scenario.rounds - self._left + 1)

    def _finish(self, *, again: bool) -> None:
        if again:
            return self.begin()
        self.over, self._ground.population.growing = True, False
        return None


class Synchronous:
    """Each round draws its nodes, and waits for its goal."""

    streams = True

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.runs = Runs(ground, self.open)
        self._sittings: dict[int, Sitting] = {}
        self._parts: dict[int, list[Part]] = {}
        self.under_way = 0

    def open(self, number: int) -> None:
        """Draw and invite; with fewer nodes than the quorum, wait for more."""
        s, population = self.ground.scenario, self.ground.population
        nodes = population.draw(s.drawn, number)
        if len(nodes) < s.quorum:
            population.put_back(nodes)
            return self.ground.clock.after(PATIENCE, self.open, number)
        drawn = fates(s, nodes, number)
        invited = frozenset(str(fate.node) for fate in drawn)
        self._sittings[number] = Sitting(self.ground, number, invited, self._closed, self.runs.ended)
        self._parts[number] = [Part(self, number, fate) for fate in drawn]
        self.ground.figures.drawn += len(drawn)
        self.under_way += len(drawn)
        return None

    def _closed(self, sitting: Sitting) -> None:
        for part in self._parts.pop(sitting.round.number):
            part.stop()

    def sitting_of(self, part: Part) -> Sitting:
        """The one it was invited to."""
        return self._sittings[part.number]

    def worth(self, part: Part) -> float:
        """All are of the same model."""
        return 1.0

    def refused(self, part: Part, again: Callable[[], None]) -> None:
        """It is too late."""
        part.come_late()

    def done(self, part: Part) -> None:
        """It is out of the way."""
        self.under_way -= 1


class Buffered:
    """A number of nodes is always at work; each round is a buffer that takes what comes, whatever it began from.

    All that are at work are invited to every round, with spares that begin as others end. An update is handed to the
    machine when it is whole, else a buffer that is full would wait for all that had begun.
    """

    streams = False

    def __init__(self, ground: Ground) -> None:
        self.ground = ground
        self.runs = Runs(ground, self.open)
        self._at_work: dict[Part, None] = {}
        self._spares: list[Fate] = []
        self._line: list[Callable[[], None]] = []
        self._sitting: Sitting | None = None
        self._turn = 0

    @property
    def under_way(self) -> int:
        """How many are at work; that some of these are gone was not noticed yet."""
        return sum(not part.over for part in self._at_work)

    def open(self, number: int) -> None:
        """A new buffer for all that are at work, and for those who may begin meanwhile."""
        s = self.ground.scenario
        self._fill(s.drawn - len(self._at_work) + 2 * s.goal)
        invited = [*(part.fate.node for part in self._at_work), *(fate.node for fate in self._spares)]
        if len(invited) < s.quorum:
            return self.ground.clock.after(PATIENCE, self.open, number)
        self._sitting = Sitting(self.ground, number, frozenset(map(str, invited)), self._closed, self.runs.ended)
        self._begin()
        line, self._line = self._line, []
        for again in line:
            again()
        return None

    def _fill(self, wanted: int) -> None:
        missing = wanted - len(self._spares)
        if missing > 0:
            self._turn += 1
            nodes = self.ground.population.draw(missing, self._turn)
            self._spares += fates(self.ground.scenario, nodes, self._turn)

    def _begin(self) -> None:
        """Let spares begin until enough are at work."""
        while self._spares and len(self._at_work) < self.ground.scenario.drawn and not self.runs.over:
            self.ground.figures.drawn += 1
            self._at_work[Part(self, 0, self._spares.pop())] = None

    def _closed(self, sitting: Sitting) -> None:
        """Nobody stops: what comes now goes into the next buffer."""

    def sitting_of(self, part: Part) -> Sitting:
        """The one that is open."""
        assert self._sitting is not None
        return self._sitting

    def worth(self, part: Part) -> float:
        """Source: Nguyen et al. 2022, arXiv:2106.06581, section 5: 1 / sqrt(1 + staleness)."""
        assert self._sitting is not None
        return 1.0 / math.sqrt(1.0 + self._sitting.round.number - part.number)

    def refused(self, part: Part, again: Callable[[], None]) -> None:
        """It waits for the next buffer."""
        self._line.append(again)

    def done(self, part: Part) -> None:
        """The next one begins."""
        self._at_work.pop(part, None)
        if self._sitting is not None and self._sitting.takes(NodeCommitted):
            self._begin()
