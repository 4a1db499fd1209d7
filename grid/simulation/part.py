"""One drawn node's part in a run: from the invitation to what became of its update, appointment by appointment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from grid.protocol import assignment
from grid.protocol.assignment import (
    Accepted,
    Assignment,
    Committed,
    Failed,
    Fetched,
    Rejected,
    TrainingStarted,
    Uploaded,
)
from grid.protocol.round import (
    NodeCommitted,
    NodeFailed,
    UpdateAccepted,
    UpdateRejected,
    UploadArrived,
    UploadBegan,
)
from grid.simulation.chance import Fate
from grid.simulation.sitting import Ground, Sitting
from grid.wire.problems import GridError

COMMITTED, FETCHED, STARTED, UPLOADED, ACCEPTED = Committed(), Fetched(), TrainingStarted(), Uploaded(), Accepted()
GONE, UNUSABLE = "its connection is gone", "its numbers are not finite"


class Course(Protocol):
    """What a part asks of the run it is a part of."""

    ground: Ground
    streams: bool
    """Whether the coordinator hears of an upload when it begins, or only when it is whole."""

    def sitting_of(self, part: Part) -> Sitting:
        """The round that it has to do with now."""

    def worth(self, part: Part) -> float:
        """What its update counts, 1 if it is fresh."""

    def refused(self, part: Part, again: Callable[[], None]) -> None:
        """The round takes nothing of it now; perhaps later it is to do so again."""

    def done(self, part: Part) -> None:
        """Nothing more will come of it."""


class Part:
    """A node at work. `model` and `number` are what it fetched: the model, and of which round; `over`: it has ended."""

    __slots__ = (
        *("_assignment", "_began", "_course", "_fetched", "_name", "_sent", "_trained"),
        *("fate", "model", "number", "over"),
    )

    def __init__(self, course: Course, number: int, fate: Fate) -> None:
        self.fate, self.number = fate, number
        self.model: Any = None
        self._course, self._name = course, str(fate.node)
        self._assignment = Assignment("simulated", number, self._name)
        self._began = -1.0
        self._fetched = self._trained = self._sent = self.over = False
        course.ground.clock.after(fate.checks_in, self.check_in)

    # --- what it does -----------------------------------------------------------------------------

    def check_in(self) -> None:
        """Commit, and fetch the model."""
        if self.over:
            return
        ground, sitting = self._course.ground, self._course.sitting_of(self)
        if not self._tell(sitting, NodeCommitted(self._name)):
            self._course.refused(self, self.check_in)
            return
        self._step(COMMITTED)
        self._step(FETCHED)
        self.model, self.number, self._fetched = ground.learner.model, sitting.round.number, True
        ground.figures.bytes_down += ground.scenario.model
        ground.clock.after(ground.scenario.model / ground.scenario.down, self._train)

    def _train(self) -> None:
        if self.over:
            return
        clock, fate, most = self._course.ground.clock, self.fate, self._course.ground.scenario.deadline
        self._step(STARTED)
        self._began = clock.now
        if fate.vanishes < most:
            clock.after(fate.vanishes, self._vanish)
        elif fate.trains > most:
            clock.after(most, self._give_up)
        else:
            clock.after(fate.trains, self._hand_in)

    def _hand_in(self) -> None:
        if self.over:
            return
        ground = self._course.ground
        if self._course.streams and not self._begin_upload():
            self._course.refused(self, self._hand_in)
            return
        self._trained = True
        ground.clock.after(ground.scenario.model / ground.scenario.up, self._arrive)

    def _begin_upload(self) -> bool:
        return self._tell(self._course.sitting_of(self), UploadBegan(self._name, self._course.ground.clock.now))

    def _arrive(self) -> None:
        if not self._sent:
            self._course.ground.figures.bytes_up += self._course.ground.scenario.model
            self._sent = True
        sitting = self._course.sitting_of(self)
        if not (self._course.streams or self._begin_upload()) or not self._tell(sitting, UploadArrived(self._name)):
            self._course.refused(self, self._arrive)
        elif self.fate.rejected:
            self._reject(sitting)
        else:
            self._count(sitting)

    # --- how it ends ------------------------------------------------------------------------------

    def _count(self, sitting: Sitting) -> None:
        ground, worth = self._course.ground, self._course.worth(self)
        weight = self.fate.examples * worth
        self._step(UPLOADED)
        self._step(ACCEPTED)
        ground.figures.counted += 1
        ground.figures.worth += worth
        ground.learner.fold(self.model, self.fate.node, self.fate.examples, worth)
        self._end(counted=True)
        sitting.tell(UpdateAccepted(self._name, weight, ground.clock.now))

    def _reject(self, sitting: Sitting) -> None:
        self._step(UPLOADED)
        self._step(Rejected(UNUSABLE))
        self._course.ground.figures.rejected += 1
        self._end()
        sitting.tell(UpdateRejected(self._name, UNUSABLE))

    def _vanish(self) -> None:
        if self.over:
            return
        ground = self._course.ground
        ground.figures.lost += 1
        ground.population.lose(self.fate.node)
        self._waste()
        self.over = True
        ground.clock.after(ground.scenario.noticed, self._fail, GONE)

    def _give_up(self) -> None:
        if not self.over:
            self._course.ground.figures.slow += 1
            self._waste()
            self.over = True
            self._course.ground.population.release(self.fate.node)
            self._fail("it takes too long")

    def _fail(self, why: str) -> None:
        self._step(Failed(why))
        sitting = self._course.sitting_of(self)
        self._course.done(self)
        if sitting.takes(NodeFailed):
            sitting.tell(NodeFailed(self._name, why))

    def come_late(self) -> None:
        """The round has closed: nothing that it did is used."""
        self._course.ground.figures.late += 1
        self._end()

    def stop(self) -> None:
        """Stop working, if it hears that the round goes on without it; an upload that has begun is finished."""
        if self.fate.hears and not self.over and not self._trained:
            self._course.ground.figures.stopped += 1
            self._end()

    def _end(self, *, counted: bool = False) -> None:
        ground = self._course.ground
        self.over = True
        if counted:
            ground.figures.work += self.fate.trains
        else:
            self._waste()
        ground.population.release(self.fate.node)
        self._course.done(self)

    def _waste(self) -> None:
        ground = self._course.ground
        if self._began >= 0.0:
            ground.figures.work_wasted += min(ground.clock.now - self._began, self.fate.trains)
        ground.figures.bytes_wasted += ground.scenario.model * (self._fetched + self._sent)

    # --- its machines -----------------------------------------------------------------------------

    def _step(self, event: object) -> None:
        self._course.ground.figures.machine_events += 1
        self._assignment, _ = assignment.advance(self._assignment, event)

    @staticmethod
    def _tell(sitting: Sitting, event: object) -> bool:
        try:
            sitting.tell(event)
        except GridError:
            return False
        return True
