"""What a person sees of search results, datasets and rounds: text in a terminal, tables in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Generic, Protocol, Self, TextIO, TypeVar

from grid.client.grid import Node
from grid.client.run import History, RoundLine
from grid.client.tables import html_table, metrics, moment, plain, size, sparkline, table
from grid.wire.node import DatasetInfo
from grid.wire.runs import Event, RunInfo


class Nodes(tuple[Node, ...]):
    """What a search found."""

    HEAD = ("node", "address", "state", "tags", "verified")

    def _rows(self) -> list[tuple[str, ...]]:
        return [(n.id, n.address, n.state, " ".join(n.tags), "yes" if n.verified else "no") for n in self]

    def __repr__(self) -> str:
        return table(self.HEAD, self._rows()) if self else "no nodes found"

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self._rows())


class Described(Protocol):
    """Whatever has a description of a dataset."""

    @property
    def info(self) -> DatasetInfo:
        """The description."""


D = TypeVar("D", bound=Described)


class DatasetTable(dict[str, tuple[D, ...]], Generic[D]):
    """Datasets by the node that holds them."""

    HEAD = ("node", "dataset", "examples", "tensors", "tags", "description")

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (node, d.name, str(d.examples), _tensors(d), " ".join(d.tags), d.description)
            for node, found in self.items()
            for d in (each.info for each in found)
        ]

    def __repr__(self) -> str:
        return table(self.HEAD, self._rows()) if self else "no datasets found"

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self._rows())


class Runs(tuple[RunInfo, ...]):
    """Runs at one coordinator."""

    HEAD = ("run", "state", "round", "begun", "reason")

    def _rows(self) -> list[tuple[str, ...]]:
        return [(r.run, r.state, f"{r.round}/{r.rounds}", moment(r.created), r.reason) for r in self]

    def __repr__(self) -> str:
        return table(self.HEAD, self._rows()) if self else "no runs"

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self._rows())


class Rounds(tuple[RoundLine, ...]):
    """The rounds of a run, the best one marked; in a terminal with a curve for each metric."""

    def __new__(cls, lines: Iterable[RoundLine], best: int = 0) -> Self:
        """The rounds, and the best of them by the rule of their task (0: it has none)."""
        self = super().__new__(cls, lines)
        self.best = best
        return self

    best: int

    WIDE = 8
    """Nodes that have columns of their own in a terminal; a page has all."""

    def _table(self, most: int | None = None) -> tuple[list[str], list[list[str]]]:
        """Means and what each of the first `most` nodes measured, metric by metric."""
        names = sorted({name for line in self for name in line.metrics})
        nodes = sorted({node for line in self for node in line.by_node})[:most]
        head = ["round", *names, *(f"{node} {name}" for name in names for node in nodes)]
        return [*head, "nodes", "examples", "moved", "seconds", "without"], [
            [
                f"{line.round}{' *' if line.round == self.best else ''}",
                *(_number(line.metrics.get(name)) for name in names),
                *(_number(line.by_node.get(node, {}).get(name)) for name in names for node in nodes),
                *(str(line.accepted), _examples(line), size(line.bytes), f"{line.seconds:.2f}"),
                ", ".join(sorted(line.failed)),
            ]
            for line in self
        ]

    def curves(self) -> dict[str, list[float]]:
        """The course of each metric: its means, round by round, where they are known."""
        names = sorted({name for line in self for name in line.metrics})
        return {name: [line.metrics[name] for line in self if name in line.metrics] for name in names}

    def __repr__(self) -> str:
        if not self:
            return "no rounds"
        told = [table(*self._table(self.WIDE))]
        for name, values in self.curves().items():
            told.append(f"{plain(name)}  {sparkline(values)}  {values[0]:.4f} to {values[-1]:.4f}")
        return "\n".join(told)

    def _repr_html_(self) -> str:
        return html_table(*self._table())


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _examples(line: RoundLine) -> str:
    return "–" if line.epsilon is not None else str(line.examples)


def _tensors(dataset: DatasetInfo) -> str:
    return ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in dataset.tensors)


def round_line(line: RoundLine, rounds: int) -> str:
    """One round for a terminal."""
    lost = f"  without {', '.join(sorted(line.failed))}" if line.failed else ""
    learned = f"{line.examples} examples" if line.epsilon is None else f"epsilon {line.epsilon:.3g}"
    return (
        f"round {line.round:>{len(str(rounds))}}/{rounds}  {metrics(line.metrics)}  "
        f"{line.accepted} nodes  {learned}  {size(line.bytes)}  {line.seconds:.2f} s{lost}"
    )


class Progress:
    """Shows a run: a bar while a round goes on (on a terminal), and a line when its result is known."""

    WIDTH = 24

    def __init__(self, rounds: int, out: TextIO | None = None) -> None:
        self._rounds, self._out = rounds, out or sys.stderr
        self._live = self._out.isatty()
        self._shown: set[int] = set()

    def __call__(self, event: Event, history: History) -> None:
        """Take in an event."""
        if event.kind == "evaluated":
            for line in history.lines():
                if line.round == event.data["round"]:
                    self._say(round_line(line, self._rounds))
                    self._shown.add(line.round)
        elif event.kind == "participant" and event.data["state"] in {"failed", "gone"}:
            self._say(f"{event.data['node']}: {event.data['reason']}")
        elif event.kind == "run-ended":
            self._rest(history)
            self._say(f"{event.data['state']} {event.data['reason']}".strip())
        elif self._live:
            self._bar(event, len(history.lines()))

    def _rest(self, history: History) -> None:
        for line in history.lines():
            if line.round not in self._shown:
                self._say(round_line(line, self._rounds))

    def _bar(self, event: Event, done: int) -> None:
        full = self.WIDTH * done // self._rounds
        bar = "█" * full + "░" * (self.WIDTH - full)
        print(f"\r\x1b[K{bar} {done}/{self._rounds} {event.kind}", end="", file=self._out, flush=True)

    def _say(self, text: str) -> None:
        text = plain(text)
        print(f"\r\x1b[K{text}" if self._live else text, file=self._out, flush=True)
