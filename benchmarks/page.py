"""The table of the last measurements in `docs/performance.md`: a run replaces the rows that it measured."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from benchmarks.row import Row, number

PAGE = Path(__file__).parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- bench: generated -->", "<!-- end of bench -->"
HEAD = ["| row | what | measured | bound | | taken |", "|---|---|---|---|---|---|"]


def write(machine: str, rows: Iterable[Row], loads: str) -> None:
    """Put the rows into the page, with the machine, the day and the load average."""
    PAGE.write_text(
        updated(PAGE.read_text(), machine, rows, f"{time.strftime('%d %B %Y', time.gmtime())}, load {loads}")
    )


def updated(page: str, machine: str, rows: Iterable[Row], taken: str) -> str:
    """The page with these rows in its table, in place of what it said of them."""
    before, _, rest = page.partition(BEGIN)
    shown, _, after = rest.partition(END)
    known = {line.split("|")[1].strip(): line for line in shown.splitlines() if line.startswith("| ")}
    known.pop("row", None)
    verdicts = {True: "kept", False: "**missed**", None: ""}
    for row in rows:
        figure = f"{number(row.measured)} {row.unit}"
        known[row.name] = f"| {row.name} | {row.what} | {figure} | {row.bound} | {verdicts[row.ok]} | {taken} |"
    return "\n".join([f"{before}{BEGIN}", machine, "", *HEAD, *known.values(), END]) + after
