"""The documents and the program say the same. `GRID_REDRAW=1` writes the generated parts anew."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
GRID = ROOT / "grid"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- rooms: generated -->", "<!-- end of rooms -->"
FLOORS = (
    "wire",
    "crypto",
    "protocol",
    "learning",
    "privacy",
    "store",
    "worker",
    "transport",
    "client",
    "device",
    "simulation",
    "accounts",
    "associations",
    "relay",
    "gateway",
    "node",
    "dht",
    "cli",
)


def first_line(file: Path) -> str:
    docstring = ast.get_docstring(ast.parse(file.read_text()))
    return (docstring or "").partition("\n")[0]


def rooms() -> str:
    """Every room with every module, in the words with which each file begins."""
    lines: list[str] = []
    for room in FLOORS:
        lines += ["", f"### {room}", "", first_line(GRID / room / "__init__.py"), "", "| module | |", "| --- | --- |"]
        files = sorted(file for file in (GRID / room).glob("*.py") if file.stem != "__init__")
        lines += [f"| `{file.stem}` | {first_line(file)} |" for file in files]
    return "\n".join([*lines, ""])


def test_no_room_is_missing_from_the_floor_plan() -> None:
    found = {folder.name for folder in GRID.iterdir() if (folder / "__init__.py").exists()}

    assert found == set(FLOORS)


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    silent = [file for file in GRID.rglob("*.py") if not first_line(file)]

    assert silent == []


def test_the_architecture_page_shows_the_rooms_as_they_are() -> None:
    page = ARCHITECTURE.read_text()
    before, _, rest = page.partition(BEGIN)
    shown, _, after = rest.partition(END)
    if os.environ.get("GRID_REDRAW"):
        ARCHITECTURE.write_text(f"{before}{BEGIN}{rooms()}{END}{after}")
        return

    assert shown == rooms(), "run the tests once with GRID_REDRAW=1"


def test_every_line_of_the_trust_page_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "trust.md").read_text()
    claims = [line for line in page.splitlines() if line.startswith("* ")]
    named = {line: re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", line) for line in claims}

    assert [line for line, tests in named.items() if not tests] == []
    missing = [
        f"{file}::{test}"
        for tests in named.values()
        for file, test in tests
        if not (ROOT / file).exists()
        or not re.search(rf"^(async )?def {test}\(", (ROOT / file).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_decision_is_numbered_once() -> None:
    numbers = [file.name[:4] for file in (ROOT / "docs" / "decisions").glob("0*.md")]

    assert len(numbers) == len(set(numbers))
