"""What the participants of one run measure of its checkpoints, and what the task's rule for stopping makes of it."""

from __future__ import annotations

import math

from grid.node.checkpoints import Checkpoints
from grid.node.records import EVALUATED, RunRecords
from grid.node.tally import Tally
from grid.protocol import run as runs
from grid.protocol.stopping import Verdict, judge, reason
from grid.store.results import ReportRow
from grid.wire.runs import Report, Task


class Evaluation:
    """The measurements of one run: each on disk when its node hears that it arrived, their means told once all are in.

    `number` is the round in which the newest checkpoint is measured (its own is the one before), 0 between them.
    """

    def __init__(self, records: RunRecords, task: Task, checkpoints: Checkpoints) -> None:
        self._records, self._task, self._checkpoints = records, task, checkpoints
        self._measured: dict[int, float] = {}
        self._untold: dict[int, Tally] = {}
        self.number, self.tally = 0, Tally()

    async def recall(self) -> None:
        """After a restart: what was reported before. What was not told of yet counts with what is still to come."""
        told = {event["round"] for event in await self._records.told(self._task.run, EVALUATED)}
        tallies: dict[int, Tally] = {}
        for row in await self._records.reports(self._task.run):
            tallies.setdefault(row.round, Tally()).add(row.node, row.metrics, row.examples)
        for number, tally in tallies.items():
            if number in told:
                self._note(number, tally)
            else:
                self._untold[number] = tally

    def begin(self, number: int) -> None:
        """The newest checkpoint is handed out, for round `number`."""
        self.number, self.tally = number, self._untold.pop(number - 1, Tally())

    async def hear(self, key: str, report: Report, now: float) -> None:
        """A node has measured the newest checkpoint; its report is on disk when this returns."""
        self.tally.add(key, report.metrics, report.examples)
        if key in self.tally.nodes:
            examples, metrics = self.tally.nodes[key]
            await self._records.reported(ReportRow(self._task.run, self.number - 1, key, examples, metrics, now))

    async def together(self, metrics: dict[str, float], examples: int, nodes: int) -> None:
        """What all nodes together measured of the newest checkpoint, where no single one tells."""
        number = self.number - 1
        self.begin(0)
        if examples:
            tally = Tally()
            tally.add("", metrics, examples)
            self._note(number, tally)
            told = {"round": number, "metrics": tally.means(), "examples": examples, "nodes": nodes}
            await self._records.evaluated(self._task.run, told)

    async def conclude(self) -> None:
        """Tell how the checkpoint did, as far as it was reported."""
        number, tally = self.number - 1, self.tally
        self.begin(0)
        if not tally.nodes:
            return
        self._note(number, tally)
        told = {
            "round": number,
            "metrics": tally.means(),
            "examples": tally.examples,
            "nodes": len(tally.nodes),
        }
        await self._records.evaluated(self._task.run, told)

    @property
    def best(self) -> int:
        """The round whose checkpoint is the best one, by the task's rule; 0 if it has none."""
        return self._verdict(self._task.rounds).best

    def is_last(self, number: int) -> bool:
        """Whether round `number`, whose updates are in, is the last: of the task, or by what was measured before it."""
        return number == self._task.rounds or self._verdict(number - 1).over

    def ending(self, run: runs.Run) -> object:
        """How a run ends whose last checkpoint is on disk and was measured."""
        rule = self._task.stop
        if run.current == run.rounds:
            return runs.RoundCompleted(run.current)
        if rule is None:
            return runs.LearnedEnough(run.current, "the answer is settled")
        return runs.LearnedEnough(run.current, reason(rule, self._verdict(run.current - 1)))

    def _note(self, number: int, tally: Tally) -> None:
        rule = self._task.stop
        if rule is not None and number:  # 0 is what the run began with: nothing was learned in it
            self._measured[number] = tally.means().get(rule.metric, math.nan)
            if best := self.best:
                self._checkpoints.keep(best)

    def _verdict(self, until: int) -> Verdict:
        if self._task.stop is None:
            return Verdict(0, math.nan, 0, False)
        return judge(self._task.stop, [(n, value) for n, value in sorted(self._measured.items()) if n <= until])
