"""Charts as SVG that stands inside a page: numbers in, text out. Colours come from the page's style sheet."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 46, 52, 14, 34
ROW, ROOM, NAME, VALUE = 34, 480, 140, 190
"""A bar: its height with the space around it, its length at 1, and room for its name and its value."""


class Bar(NamedTuple):
    """One bar from 0 to 1. `note` stands behind its value; `kind` is its class in the style sheet."""

    name: str
    value: float
    note: str = ""
    kind: str = ""


def curve(title: str, values: Sequence[float], low: float, high: float, digits: int = 3) -> str:
    """One value for each round from the first on, as a line; the last one is written out."""
    ticks = [low + (high - low) * step / 4 for step in range(5)]
    places = [(_x(number, len(values)), _y(value, low, high)) for number, value in enumerate(values)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    area = f"{places[0][0]:.1f},{HEIGHT - BOTTOM} {line} {places[-1][0]:.1f},{HEIGHT - BOTTOM}"
    last_x, last_y = places[-1]
    return _svg(
        title,
        WIDTH,
        HEIGHT,
        [
            *(_grid_line(tick, _y(tick, low, high)) for tick in ticks),
            *(_round_tick(number, len(values)) for number in _some(len(values))),
            f'<polygon class="area" points="{area}"/>',
            f'<polyline class="line" points="{line}"/>',
            *(_dot(*place, f"round {n + 1}: {values[n]:.{digits}f}") for n, place in enumerate(places)),
            f'<text class="value" x="{last_x + 8:.1f}" y="{last_y + 4:.1f}">{values[-1]:.{digits}f}</text>',
        ],
    )


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Bars from 0 to 1, one below the other."""
    return _svg(
        title,
        NAME + ROOM + VALUE,
        ROW * len(rows),
        [part for place, row in enumerate(rows) for part in _bar(row, place)],
    )


def upper(values: Sequence[float]) -> float:
    """A round number, 1, 2 or 5 times a power of ten, that is not below any of the values."""
    largest = max(values, default=1.0) or 1.0
    power = 10.0 ** math.floor(math.log10(largest))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= largest)


def lower(values: Sequence[float]) -> float:
    """The next tenth below all of the values."""
    return math.floor(min(values, default=0.0) * 10) / 10


def _svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    label = html.escape(title)
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width} {height}">\n' + "\n".join(parts) + "\n</svg>"


def _x(number: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * number / max(1, count - 1)


def _y(value: float, low: float, high: float) -> float:
    share = (value - low) / ((high - low) or 1.0)
    return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(1.0, max(0.0, share)))


def _grid_line(value: float, y: float) -> str:
    return (
        f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="tick" text-anchor="end" x="{LEFT - 8}" y="{y + 4:.1f}">{value:g}</text>'
    )


def _round_tick(number: int, count: int) -> str:
    return (
        f'<text class="tick" text-anchor="middle" x="{_x(number, count):.1f}" y="{HEIGHT - 12}">'
        f"{'round ' if number == 0 else ''}{number + 1}</text>"
    )


def _some(count: int) -> range:
    """Rounds to name on the axis: at most about ten."""
    return range(0, count, max(1, math.ceil(count / 10)))


def _dot(x: float, y: float, text: str) -> str:
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"><title>{html.escape(text)}</title></circle>'


def _bar(row: Bar, place: int) -> list[str]:
    top = ROW * place
    note = f'<tspan class="note" dx="8">{html.escape(row.note)}</tspan>'
    return [
        f'<text class="name" text-anchor="end" x="{NAME - 12}" y="{top + 21}">{html.escape(row.name)}</text>',
        f'<rect class="track" x="{NAME}" y="{top + 7}" width="{ROOM}" height="20" rx="4"/>',
        f'<rect class="bar {row.kind}" x="{NAME}" y="{top + 7}" width="{ROOM * row.value:.1f}" height="20" rx="4"/>',
        f'<text class="value" x="{NAME + ROOM + 10}" y="{top + 21}">{row.value:.3f}{note}</text>',
    ]
