"""One figure beside its bound, and how such figures are shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """One figure: what it is, its value and unit, and the most or the least that it may be, if it is bound."""

    name: str
    what: str
    measured: float
    unit: str
    most: float | None = None
    least: float | None = None

    @property
    def ok(self) -> bool | None:
        """Whether it keeps its bound; None: it has none, and informs only."""
        if self.most is None and self.least is None:
            return None
        return (self.most is None or self.measured <= self.most) and (self.least is None or self.measured >= self.least)

    @property
    def bound(self) -> str:
        """The bound in words."""
        if self.most is not None:
            return f"<= {self.most:g} {self.unit}"
        return "" if self.least is None else f">= {self.least:g} {self.unit}"

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "bound": self.bound, "ok": self.ok}


def line(row: Row) -> str:
    """A row of the table."""
    verdict = {True: "ok", False: "MISSED", None: ""}[row.ok]
    return f"{row.name:<24} {row.what:<74} {number(row.measured):>9} {row.unit:<4} {row.bound:<13} {verdict}".rstrip()


def number(value: float) -> str:
    """Three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(rows: Iterable[Row]) -> Iterator[str]:
    """All rows, and what they come to."""
    rows = list(rows)
    yield f"{'name':<24} {'what':<74} {'measured':>14} bound"
    yield from map(line, rows)
    missed = [row.name for row in rows if row.ok is False]
    bound = sum(row.ok is not None for row in rows)
    yield f"{bound - len(missed)} of {bound} bounds kept" + (f"; missed: {', '.join(missed)}" if missed else "")
