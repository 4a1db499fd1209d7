"""What the demo tells a person while it goes on."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from grid.cli import digits
from grid.cli.processes import Daemon
from grid.cli.report import Outcome
from grid.cli.small_grid import TAG, SmallGrid
from grid.client.grid import Node
from grid.client.run import History, RoundLine
from grid.client.tables import size
from grid.wire.runs import Event

NEXT = """
The grid is still running; keys, data and logs are in {folder}

What data is there, and who has it:
  curl {gateway}/search-available-tags
  curl -H 'Content-Type: application/json' -d '{{"query": ["{tag}"]}}' {gateway}/search
How a node is, and how it confines the jobs of others:
  curl {node}/status
Train on it from Python ({python}):
  import grid
  from pathlib import Path
  g = grid.connect("{gateway}", identity=grid.Identity.load(Path("{key}")))
  run = g.train(grid.Plan.mlp([64, 32, 10], metrics=["accuracy"]), "{tag}", rounds=5)
  run.result()
To stop it:
  kill {pids}; rm -r {folder}
"""


class Show:
    """Writes lines to standard output, or to standard error; `began` is when the process started, by `now`."""

    def __init__(self, began: float, err: bool, now: Callable[[], float] = time.monotonic) -> None:
        self._began, self._err, self._now = began, err, now
        self._told = 0  # rounds up to this one
        self.first_round = 0.0

    def age(self) -> float:
        """Seconds since the process started."""
        return self._now() - self._began

    def begin(self, dealt: digits.Dealt, directory: str = "a gateway") -> None:
        """What is about to be done."""
        dealt_out = ", ".join(str(len(share)) for share in dealt.shares)
        self._say(f"Starting {directory} and {len(dealt.shares)} nodes. Scans of digits for each: {dealt_out};")
        self._say(f"kept apart for the test: {len(dealt.test)}. Label skew: Dirichlet({dealt.skew:g}).")
        self._say("")

    def ready(self, daemon: Daemon) -> None:
        """A daemon answers."""
        self._step(f"{daemon.name:8} {daemon.address}")

    def killed(self, daemon: Daemon) -> None:
        """A daemon was killed on purpose."""
        self._step(f"{daemon.name:8} was killed: those that met through it go on without")

    def found(self, tag: str, nodes: Sequence[Node]) -> None:
        """What a search by tag gave."""
        self._step(f"search   {tag}: {', '.join(sorted(node.id for node in nodes))}")

    def heard(self, event: Event, history: History) -> None:
        """Something happened in the run."""
        data = event.data
        if event.kind == "participant" and data["state"] == "ready":
            self._step(f"{data['node']:8} has loaded the plan, {data['examples']} examples to train on")
        elif event.kind == "participant" and data["reason"]:
            self._step(f"{data['node']:8} {data['state']}: {data['reason']}")
        elif event.kind == "round-closed":
            self.first_round = self.first_round or self.age()
        if event.kind in {"evaluated", "run-ended"}:
            lines = history.lines()
            measured = max((line.round for line in lines if line.metrics), default=0)
            for line in lines:
                if line.round > self._told and (line.round <= measured or event.kind == "run-ended"):
                    self._round(line)

    def comparing(self) -> None:
        """The rounds are over."""
        self._say("")
        self._step("for comparison: each node alone, and all data in one place ...")

    def end(self, outcome: Outcome, report: Path) -> None:
        """What it came to."""
        self._say("")
        self._say(f"Share of the {outcome.test} test scans, which no node has, that are read right:")
        for row in outcome.comparison():
            self._say(f"  {row.name:16} {row.value:.4f}  {row.note}", bold=bool(row.kind))
        self._say("")
        self._say(
            f"{len(outcome.rounds)} rounds moved {size(outcome.bytes)}, all of it sealed. "
            f"First round finished after {outcome.first_round_s:.1f} s, everything after {outcome.seconds:.1f} s."
        )
        self._say(f"Report: {report}")

    def next_steps(self, here: SmallGrid, folder: Path, key: Path) -> None:
        """The grid goes on: what to try on it, and how to stop it."""
        self._say(
            NEXT.format(
                folder=folder,
                gateway=here.gateway.address,
                node=here.nodes[0].address,
                tag=TAG,
                key=key,
                python=shlex.quote(sys.executable),
                pids=" ".join(map(str, here.leave())),
            )
        )

    def _round(self, line: RoundLine) -> None:
        if not self._told:
            self._say("")
            self._say("round  accuracy    loss  nodes  examples      moved   seconds   (on what the nodes hold out)")
        self._told = line.round
        accuracy, loss = (f"{line.metrics[name]:.4f}" if name in line.metrics else "–" for name in ("accuracy", "loss"))
        lost = f"   without {', '.join(sorted(line.failed))}" if line.failed else ""
        self._say(
            f"{line.round:5}  {accuracy:>8}  {loss:>6}  {line.accepted:5}  {line.examples:8}"
            f"  {size(line.bytes):>9}  {line.seconds:8.3f}{lost}"
        )

    def _step(self, text: str) -> None:
        self._say(f"{self.age():5.1f} s  {text}")

    def _say(self, text: str, bold: bool = False) -> None:
        click.echo(click.style(text, bold=True) if bold else text, err=self._err)
