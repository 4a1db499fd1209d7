"""What a demo came to, and a page that shows it: one file, nothing fetched, nothing that runs."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from grid.cli import charts
from grid.client.run import RoundLine
from grid.client.tables import html_table, size

Rows = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Alone:
    """One node: of which digits its share is, and what it learned alone.

    `labels` counts the digits 0 to 9; `accuracy` is measured on the common test set.
    """

    name: str
    labels: Sequence[int]
    accuracy: float


@dataclass(frozen=True)
class Outcome:
    """A demo that was carried through. Accuracies, 0 to 1, are those on the `test` scans that no node has.

    `skew` is the Dirichlet parameter of the shares; `first_round_s` and `seconds` count from the start of the
    process; `plan`, `environment` and `isolation` are pairs of a word and what it is here.
    """

    nodes: Sequence[Alone]
    federated: float
    pooled: float
    test: int
    rounds: Sequence[RoundLine]
    skew: float
    seed: int
    first_round_s: float
    seconds: float
    plan: Rows
    environment: Rows
    isolation: Rows

    @property
    def bytes(self) -> int:
        """Sealed models and updates that were moved, in bytes."""
        return sum(line.bytes for line in self.rounds)

    def plainly(self) -> dict[str, Any]:
        """The figures, for programs."""
        return {
            "federated": round(self.federated, 6),
            "pooled": round(self.pooled, 6),
            "nodes": [round(node.accuracy, 6) for node in self.nodes],
            "rounds": len(self.rounds),
            "first_round_s": round(self.first_round_s, 3),
            "seconds": round(self.seconds, 3),
            "bytes": self.bytes,
            "test_examples": self.test,
            "seed": self.seed,
        }

    def comparison(self) -> list[charts.Bar]:
        """Each node alone, all of them federated, and all data in one place."""
        return [
            *(charts.Bar(f"{node.name} alone", node.accuracy, self._wrong(node.accuracy)) for node in self.nodes),
            charts.Bar("federated", self.federated, self._wrong(self.federated), "ours"),
            charts.Bar("all data pooled", self.pooled, self._wrong(self.pooled)),
        ]

    def _wrong(self, accuracy: float) -> str:
        return f"{round((1 - accuracy) * self.test)} of {self.test} wrong"


def page(outcome: Outcome, now: float) -> str:
    """The report as a self-contained HTML document; `now` in UTC seconds."""
    made = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return PAGE.format(
        style=STYLE,
        lead=_lead(outcome),
        bars=charts.bars("Accuracy on the common test set", outcome.comparison()),
        curves="".join(_curves(outcome.rounds)),
        labels=_labels(outcome.nodes),
        skew=f"{outcome.skew:g}",
        rounds=_round_table(outcome.rounds),
        plan=_pairs(outcome.plan),
        isolation=_pairs(outcome.isolation),
        environment=_pairs([("made", made), ("seed", str(outcome.seed)), *outcome.environment]),
    )


def _lead(outcome: Outcome) -> str:
    best = max(node.accuracy for node in outcome.nodes)
    facts = [
        (f"{outcome.federated:.1%}", "of the test scans read right by the federated model"),
        (f"{best:.1%}", "by the best node alone"),
        (f"{outcome.pooled:.1%}", "with all data in one place"),
        (size(outcome.bytes), f"sealed, in {len(outcome.rounds)} rounds"),
        (f"{outcome.first_round_s:.1f} s", "from the first process to the first finished round"),
    ]
    return "".join(f"<li><b>{html.escape(figure)}</b> {html.escape(words)}</li>" for figure, words in facts)


def _curves(rounds: Sequence[RoundLine]) -> list[str]:
    """A chart for accuracy and one for loss, as far as they were measured."""
    shown = []
    for name, heading in (("accuracy", "Accuracy"), ("loss", "Loss")):
        values = [line.metrics[name] for line in rounds if name in line.metrics]
        if values:
            low, high = (charts.lower(values), 1.0) if name == "accuracy" else (0.0, charts.upper(values))
            title = f"{heading} after each round: from {values[0]:.3f} to {values[-1]:.3f}"
            shown.append(f"<figure>{charts.curve(title, values, low, high)}<figcaption>{heading}</figcaption></figure>")
    return shown


def _labels(nodes: Sequence[Alone]) -> str:
    """How many of each digit every node has; the more, the darker."""
    most = max((count for node in nodes for count in node.labels), default=1) or 1
    head = "".join(f'<th scope="col">{digit}</th>' for digit in range(len(nodes[0].labels)))
    rows = (
        f'<tr><th scope="row">{html.escape(node.name)}</th>'
        + "".join(f'<td style="--share:{count / most:.2f}">{count}</td>' for count in node.labels)
        + f"<td>{sum(node.labels)}</td></tr>"
        for node in nodes
    )
    return (
        f'<table class="heat"><thead><tr><th scope="col">digit</th>{head}<th scope="col">all</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _round_table(rounds: Sequence[RoundLine]) -> str:
    head = ("round", "accuracy", "loss", "nodes", "examples", "moved", "seconds", "without")
    return html_table(head, [_cells(line) for line in rounds])


def _cells(line: RoundLine) -> tuple[str, ...]:
    measured = [f"{line.metrics[name]:.4f}" if name in line.metrics else "–" for name in ("accuracy", "loss")]
    counts = (str(line.accepted), str(line.examples), size(line.bytes), f"{line.seconds:.3f}")
    return (str(line.round), *measured, *counts, ", ".join(sorted(line.failed)) or "–")


def _pairs(rows: Rows) -> str:
    cells = (f'<tr><th scope="row">{html.escape(word)}</th><td>{html.escape(value)}</td></tr>' for word, value in rows)
    return f'<table class="pairs"><tbody>{"".join(cells)}</tbody></table>'


STYLE = """
:root { color-scheme: light dark; --paper: #fbfbf9; --card: #fff; --ink: #1d2430; --soft: #5b6472; --rule: #dfe2e6;
  --ours: #1f5fd0; --other: #8d97a5; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --card: #1c222b; --ink: #e6e9ee; --soft: #a2acb9;
  --rule: #333c48; --ours: #7fb0ff; --other: #77818f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; margin: 0 0 .5rem; }
p { margin: .25rem 0 1rem; max-width: 46rem; }
p, figcaption, .note, .tick { color: var(--soft); fill: var(--soft); }
section { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 1.25rem 1.5rem;
  margin-top: 1.25rem; overflow-x: auto; }
ul.lead { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem 1.25rem;
  list-style: none; margin: 1.25rem 0 0; padding: 0; }
ul.lead li { color: var(--soft); font-size: .92rem; line-height: 1.35; }
ul.lead b { display: block; color: var(--ink); font-size: 1.7rem; line-height: 1.2;
  font-variant-numeric: tabular-nums; }
ul.lead li:first-child b { color: var(--ours); }
.charts, .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(19rem, 1fr)); gap: 1rem 1.5rem; }
.pair { gap: 0 1.25rem; }
figure { margin: 0; } figcaption { font-size: .9rem; text-align: center; }
svg { display: block; width: 100%; height: auto; font: 13px system-ui, sans-serif; fill: var(--ink); }
.wide { overflow-x: auto; } .wide svg { min-width: 34rem; }
.rule { stroke: var(--rule); } .line { fill: none; stroke: var(--ours); stroke-width: 2.5; stroke-linejoin: round; }
.area { fill: var(--ours); opacity: .1; } .dot { fill: var(--ours); }
.track { fill: var(--rule); opacity: .55; } .bar { fill: var(--other); } .bar.ours { fill: var(--ours); }
.value { font-weight: 600; font-variant-numeric: tabular-nums; } .note { font-weight: 400; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; } th:first-child, .pairs td { text-align: left; }
.pairs td { white-space: normal; overflow-wrap: anywhere; }
.heat td, .heat thead th + th { text-align: center; }
.heat td { background: color-mix(in srgb, var(--ours) calc(var(--share, 0) * 45%), transparent); }
summary { cursor: pointer; font-weight: 600; } details[open] summary { margin-bottom: .75rem; }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>A federated training on this machine</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>A federated training on this machine</h1>
<p>Nodes, each a process with its own scans of handwritten digits, trained one model together. The scans stayed
where they were; sealed models and updates moved. The directory only told who has data with the tag.</p>
<ul class="lead">{lead}</ul>
<section><h2>On scans that no node has</h2>
<p>The same test set for all: each node alone, all of them federated, and all shares in one place. The same plan,
the same first parameters and as many passes over the data each.</p>
<div class="wide">{bars}</div></section>
<section><h2>Round by round</h2>
<p>The federated model after each round, on the examples that the nodes hold out, weighted by their number.</p>
<div class="charts">{curves}</div>
<details><summary>All rounds</summary>{rounds}</details></section>
<section><h2>What each node has</h2>
<p>Scans of each digit. The shares are drawn from a Dirichlet distribution with parameter {skew}: the smaller it
is, the less the nodes resemble each other.</p>
{labels}</section>
<div class="pair"><section><h2>The plan</h2>
<p>What was trained, as data: a list of known operations. No code travelled.</p>
{plan}</section>
<section><h2>How jobs were confined</h2>
<p>Each node trains in a process of its own that can open no file and no connection, as far as this kernel
offers it; this is what the nodes said.</p>
{isolation}</section></div>
<section><h2>Where this was made</h2>
{environment}
<p>Scans: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository
(1998), doi:10.24432/C50P49, CC BY 4.0; the 1,797 that scikit-learn ships.</p></section>
</main>
</body>
</html>
"""
