"""What the participants of one run measure of its checkpoints, and what the task's rule for stopping makes of it."""

from __future__ import annotations

import math

from grid.node.checkpoints import Checkpoints
from grid.node.records import RunRecords
from grid.node.tally import Tally
from grid.protocol import run as runs
from grid.protocol.stopping import Verdict, judge, reason
from grid.store.results import ReportRow
from grid.wire.runs import Task


class Evaluation:
    """The measurements of one run, in memory from one checkpoint to the next, on disk when they are told of.

    `number` is the round in which the newest checkpoint is measured (its own is the one before), 0 between them.
    """

    def __init__(self, records: RunRecords, task: Task, checkpoints: Checkpoints) -> None:
        self._records, self._task, self._checkpoints = records, task, checkpoints
        self._measured: dict[int, float] = {}
        self.number, self.tally = 0, Tally()

    async def recall(self) -> None:
        """After a restart: what was told of before."""
        tallies: dict[int, Tally] = {}
        for row in await self._records.reports(self._task.run):
            tallies.setdefault(row.round, Tally()).add(row.node, row.metrics, row.examples)
        for number, tally in tallies.items():
            self._note(number, tally)

    def begin(self, number: int) -> None:
        """The newest checkpoint is handed out, for round `number`."""
        self.number, self.tally = number, Tally()

    async def conclude(self, now: float) -> None:
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
        run = self._task.run
        rows = [ReportRow(run, number, key, examples, said, now) for key, (examples, said) in tally.nodes.items()]
        await self._records.evaluated(run, rows, told)

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
        if run.current == run.rounds or rule is None:
            return runs.RoundCompleted(run.current)
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
