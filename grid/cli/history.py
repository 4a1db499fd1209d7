"""A run as a page: its curves and tables in one file, nothing fetched, nothing that runs."""

from __future__ import annotations

import html
from collections.abc import Sequence

from grid.cli import charts
from grid.cli.report import STYLE
from grid.client.display import Rounds
from grid.client.tables import moment, size
from grid.wire.runs import RunInfo

UNIT = {"accuracy", "top5"}
"""Metrics that are shares of all: their axis ends at 1."""

MOST = 12
"""Curves of single nodes that are drawn at most; the table has all."""


def page(info: RunInfo, rounds: Rounds, now: float) -> str:
    """The run as a self-contained HTML document; `now` in UTC seconds."""
    return PAGE.format(
        style=STYLE,
        run=html.escape(info.run),
        said=html.escape(f" {info.reason}." if info.reason else ""),
        begun=moment(info.created),
        made=moment(now),
        lead=_lead(info, rounds),
        curves="".join(_curve(name, name, values) for name, values in rounds.curves().items()),
        nodes="".join(_of_nodes(rounds)),
        rounds=rounds._repr_html_(),
    )


def _lead(info: RunInfo, rounds: Rounds) -> str:
    facts: list[tuple[str, str]] = [(info.state, f"after {len(rounds)} of {info.rounds} rounds")]
    if rounds.best:
        facts.append((str(rounds.best), "is the best round by the task's rule for stopping"))
    facts += [(f"{values[-1]:.4f}", f"{name}, last measured") for name, values in rounds.curves().items()]
    facts.append((size(sum(line.bytes for line in rounds)), "moved, all of it sealed"))
    return "".join(f"<li><b>{html.escape(figure)}</b> {html.escape(words)}</li>" for figure, words in facts)


def _of_nodes(rounds: Rounds) -> list[str]:
    """A chart for each metric of each node."""
    courses: dict[tuple[str, str], list[float]] = {}
    for line in rounds:
        for node, metrics in line.by_node.items():
            for name, value in metrics.items():
                courses.setdefault((node, name), []).append(value)
    return [_curve(f"{node}: {name}", name, values) for (node, name), values in sorted(courses.items())[:MOST]]


def _curve(caption: str, name: str, values: Sequence[float]) -> str:
    low, high = (charts.lower(values), 1.0) if name in UNIT else (min(0.0, *values), charts.upper(values))
    title = f"{caption}, measured {len(values)} times: from {values[0]:.4g} to {values[-1]:.4g}"
    figure = charts.curve(title, values, low, high)
    return f"<figure>{figure}<figcaption>{html.escape(caption)}</figcaption></figure>"


PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Run {run}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>Run {run}</h1>
<p>Begun {begun}; this page was made {made}.{said}</p>
<ul class="lead">{lead}</ul>
<section><h2>Round by round</h2>
<p>The model after each round, on the examples that the nodes hold out, weighted by their number.</p>
<div class="charts">{curves}</div></section>
<section><h2>Node by node</h2>
<p>The same model on what each node holds out.</p>
<div class="charts">{nodes}</div></section>
<section><h2>All rounds</h2>{rounds}</section>
</main>
</body>
</html>
"""
