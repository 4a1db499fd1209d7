"""Brings the participants of a run together: invites them, and notes how each one stands."""

from __future__ import annotations

from collections.abc import Callable

from grid.node.cohort import Cohort
from grid.node.course import Course
from grid.node.inviting import Heard, invite_all
from grid.node.means import Means
from grid.node.roster import Roster, Standing
from grid.protocol import run as runs
from grid.wire.documents import Signed
from grid.wire.problems import GridError, NoParticipants
from grid.wire.runs import Invite, Invited, Peer, Task


class Muster:
    """Who was asked into one run, and what came of it."""

    def __init__(
        self,
        means: Means,
        task: Task,
        signed: Signed,
        address: Callable[[], str],
        course: Course,
        roster: Roster,
        cohort: Cohort,
    ) -> None:
        self._means, self._task, self._signed, self._address = means, task, signed, address
        self._course, self._roster, self._cohort = course, roster, cohort

    async def invite(self, heard: Heard) -> None:
        """Invite all; `heard` gets each one's answer."""
        published = self._means.prekeys.published()
        invite = Invite(task=self._signed, coordinator_address=self._address(), prekey=published)
        await invite_all(self._means.calls, invite, [entry.peer for entry in self._roster.entries()], heard)

    async def prepare(self) -> None:
        """Invite, hand out the plan, and wait until everybody is ready or has given up."""
        invited = {"invited": [e.peer.node_id for e in self._roster.entries()]}
        await self._means.records.moved(self._course.run, "preparing", invited)
        await self.invite(self.answered)
        await self._course.pulse.until(
            lambda: not self._roster.keys(Standing.INVITED, Standing.PREPARING), within=self._task.deadline
        )
        ready = self._roster.keys(Standing.READY)
        if len(ready) < self._task.quorum.minimum:
            raise NoParticipants(
                f"{len(ready)} nodes are ready, the quorum is {self._task.quorum.minimum}. {self._roster.reasons()}"
            )
        self._course.advance(runs.Prepared())
        await self._means.records.moved(self._course.run, "prepared", {"ready": len(ready)})

    async def answered(self, peer: Peer, answer: Invited | GridError) -> None:
        """What came of an invitation. Calls name nodes: one that knows itself by another name would not hear them."""
        refused = answer.detail if isinstance(answer, GridError) else ""
        if isinstance(answer, Invited) and answer.node_id != peer.node_id:
            refused = f"it calls itself {answer.node_id}"
        if isinstance(answer, GridError) or refused:
            await self.stand(peer.public_key, Standing.FAILED, refused)
            return
        entry = self._roster[peer.public_key]
        if entry.standing == Standing.INVITED:
            entry.examples = answer.examples
            self._cohort.attendance.expect(peer.public_key)
            await self.stand(peer.public_key, Standing.PREPARING)

    async def heard_again(self, peer: Peer, answer: Invited | GridError) -> None:
        """What came of an invitation after a restart. Those who are ready show it by listening."""
        if isinstance(answer, Invited):
            await self.answered(peer, answer)

    async def stand(self, key: str, standing: Standing, reason: str = "") -> None:
        """Note how a participant stands, and tell of it."""
        entry = self._roster.put(key, standing, reason)
        self._course.pulse.beat()
        told = {"node": entry.peer.node_id, "state": standing.value, "reason": reason, "examples": entry.examples}
        await self._means.records.say(self._task.run, "participant", told)

    async def welcome(self, key: str, examples: int) -> None:
        """It has the plan loaded, and may take part in every round to come."""
        entry = self._roster.put(key, Standing.READY)
        entry.ready, entry.examples = True, examples
        told = {"node": entry.peer.node_id, "state": Standing.READY.value, "reason": "", "examples": examples}
        self._cohort.welcome(key)
        self._course.pulse.beat()
        await self._means.records.ready(self._task.run, key, told)
