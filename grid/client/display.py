"""What a person sees of search results, datasets and rounds: text in a terminal, tables in a notebook."""

from __future__ import annotations

import sys
from typing import TextIO

from grid.client.grid import Node
from grid.client.run import History, RoundLine
from grid.client.tables import html_table, metrics, plain, size, table
from grid.wire.node import DatasetInfo
from grid.wire.runs import Event


class Nodes(tuple[Node, ...]):
    """What a search found."""

    HEAD = ("node", "address", "state", "tags", "verified")

    def _rows(self) -> list[tuple[str, ...]]:
        return [(n.id, n.address, n.state, " ".join(n.tags), "yes" if n.verified else "no") for n in self]

    def __repr__(self) -> str:
        return table(self.HEAD, self._rows()) if self else "no nodes found"

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self._rows())


class DatasetTable(dict[str, tuple[DatasetInfo, ...]]):
    """Datasets by the node that holds them."""

    HEAD = ("node", "dataset", "examples", "tensors", "tags", "description")

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (node, d.name, str(d.examples), _tensors(d), " ".join(d.tags), d.description)
            for node, found in self.items()
            for d in found
        ]

    def __repr__(self) -> str:
        return table(self.HEAD, self._rows()) if self else "no datasets found"

    def _repr_html_(self) -> str:
        return html_table(self.HEAD, self._rows())


def _tensors(dataset: DatasetInfo) -> str:
    return ", ".join(f"{t.name} {t.dtype}{list(t.shape)}" for t in dataset.tensors)


def round_line(line: RoundLine, rounds: int) -> str:
    """One round for a terminal."""
    lost = f"  without {', '.join(sorted(line.failed))}" if line.failed else ""
    return (
        f"round {line.round:>{len(str(rounds))}}/{rounds}  {metrics(line.metrics)}  "
        f"{line.accepted} nodes  {line.examples} examples  {size(line.bytes)}  {line.seconds:.2f} s{lost}"
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
