"""Who of a run's participants is there, who is drawn into a round, and who in place of somebody who is lost to it."""

from __future__ import annotations

import asyncio

from grid.faults import point
from grid.node.attendance import Attendance
from grid.node.course import Course
from grid.node.records import RunRecords
from grid.node.roster import Roster, Standing
from grid.protocol import round as rounds
from grid.protocol.draw import drawing_order
from grid.wire.runs import Task

PATIENCE = 60.0
"""Seconds that a round waits for enough participants to be back, and an evaluation for its reports."""

ABSENT = "it stopped listening"


class Cohort:
    """The participants of one run, from round to round. They are named by public key."""

    def __init__(self, task: Task, course: Course, roster: Roster) -> None:
        self._seed, self._quorum = f"{task.run}/{task.seed}", task.quorum
        self._course, self._roster = course, roster
        self._waits: dict[str, asyncio.TimerHandle] = {}
        self.attendance = Attendance(self._gone, self._back)
        course.losing = self._losing

    def present(self) -> frozenset[str]:
        """Those who are ready and listen at this moment."""
        return frozenset(key for key in self._roster.keys(Standing.READY) if self.attendance.here(key))

    def draw(self, number: int) -> tuple[frozenset[str], int]:
        """Who is invited to a round, of those who are there now, and how many updates close it."""
        drawn = drawing_order(self.present(), self._seed, number)[: self._quorum.drawn or None]
        target = min(self._quorum.target or len(drawn), len(drawn))
        self._course.owed.clear()  # of a round that is complete
        return frozenset(drawn), max(target, self._quorum.minimum)

    def welcome(self, key: str) -> None:
        """Somebody is there, or ready, who was not: in place of whoever is missed, if the round lacks one."""
        r = self._course.round
        if r is None or key in r.invited or key not in self.present():
            return
        if rounds.lacking(r):
            self._invite(key)
        elif away := next(iter(self._waits), None):
            self._waits.pop(away).cancel()
            self._course.fail(away, ABSENT)  # which draws the one who came

    def fill(self) -> None:
        """Draw spares for as many as the round lacks: some were lost and nobody drawn before a restart."""
        while rounds.lacking(self._course.the_round) and (spares := self._spares()):
            self._invite(spares[0])

    def close(self) -> None:
        """Nobody is waited for any more."""
        self.attendance.close()
        for wait in self._waits.values():
            wait.cancel()

    def _losing(self, e: rounds.NodeFailed | rounds.UpdateRejected) -> None:
        """The round is about to lose a node: draw a spare first, so that it does not close for want of one."""
        if rounds.falls_short(self._course.the_round, e) and (spares := self._spares()):
            self._invite(spares[0])

    def _spares(self) -> list[str]:
        r = self._course.the_round
        return drawing_order(self.present() - r.invited, self._seed, r.number)

    def _invite(self, key: str) -> None:
        self._course.apply(rounds.SpareDrawn(key))

    def _gone(self, key: str) -> None:
        """Its polls have stayed away: do not wait for it, unless the quorum cannot do without it."""
        if self._roster[key].standing in {Standing.PREPARING, Standing.READY}:
            self._roster.put(key, Standing.GONE, ABSENT)
        r = self._course.round
        if r is not None and rounds.needs(r, key) and not self._spares():
            self._waits[key] = asyncio.get_running_loop().call_later(PATIENCE, self._give_up, key)
        else:
            self._course.fail(key, ABSENT)
        self._course.pulse.beat()

    def _give_up(self, key: str) -> None:
        self._waits.pop(key, None)
        self._course.fail(key, ABSENT)

    def _back(self, key: str) -> None:
        if wait := self._waits.pop(key, None):
            wait.cancel()
        entry = self._roster[key]
        if entry.standing == Standing.GONE:
            self._roster.put(key, Standing.READY if entry.ready else Standing.PREPARING)
        self.welcome(key)
        self._course.pulse.beat()


async def write_down(records: RunRecords, run: str, course: Course, roster: Roster) -> None:
    """What became of a round's nodes: committed, and told, when this returns.

    Who was lost and who was drawn instead are one transaction: no restart finds a loss without its spare.
    """
    changes, r = course.take_owed(), course.the_round
    if not changes:
        return
    drawn = any(isinstance(change, rounds.SpareDrawn) for change in changes)
    if drawn:
        point("before-spare-row")
    await records.cohort_changed(run, r, changes, roster.name)
    if drawn:
        point("after-spare-row")
