"""Words and tables for people: in a terminal, and for a notebook."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

UNITS = ("B", "kB", "MB", "GB", "TB")
BARS = "▁▂▃▄▅▆▇█"


def size(count: float) -> str:
    """Bytes for a person: `1.2 MB`."""
    for unit in UNITS:
        if count < 1000 or unit == UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def plain(text: str) -> str:
    """Words of strangers without what a terminal would obey: control characters become a sign that one was there."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as they need to be; every cell is plain."""
    lines = [[plain(cell) for cell in line] for line in (head, *rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines)


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The same for a notebook; every cell is escaped."""
    top = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def metrics(values: Mapping[str, float]) -> str:
    """Metrics for a line: `accuracy 0.9512  loss 0.1733`."""
    return "  ".join(f"{plain(name)} {value:.4f}" for name, value in sorted(values.items()))


def moment(seconds: float) -> str:
    """A time (UTC seconds) for a person."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """A curve in one line of letters, from the least value to the largest; of many values, `width` evenly apart."""
    count = len(values)
    shown = [values[at * (count - 1) // (width - 1)] for at in range(width)] if count > width > 1 else values
    low, high = min(shown, default=0.0), max(shown, default=0.0)
    steps = len(BARS) - 1
    return "".join(BARS[round(steps * (value - low) / ((high - low) or 1.0))] for value in shown)
