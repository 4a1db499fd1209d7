"""What the benchmarks write into the docs; what they measure is for them to say."""

from __future__ import annotations

from benchmarks.page import BEGIN, END, PAGE, updated
from benchmarks.row import Row

EMPTY = f"# Performance\n\n{BEGIN}\n{END}\n\n## How\n"
QUICK, LARGE = Row("rounds.small", "a round", 24.0, "ms", most=50), Row("idle.node", "at rest", 90.0, "MB", most=80)


def test_rows_are_written_with_their_bounds_the_machine_and_the_day() -> None:
    page = updated(EMPTY, "a machine of two cores", [QUICK, LARGE], "today")

    assert "a machine of two cores" in page
    assert "| rounds.small | a round | 24 ms | <= 50 ms | kept | today |" in page
    assert "| idle.node | at rest | 90 MB | <= 80 MB | **missed** | today |" in page
    assert page.startswith("# Performance\n")
    assert page.endswith("\n\n## How\n")


def test_a_run_replaces_what_it_measured_and_leaves_the_rest() -> None:
    page = updated(EMPTY, "machine", [QUICK, LARGE], "yesterday")

    page = updated(page, "machine", [Row("rounds.small", "a round", 60.0, "ms", most=50)], "today")

    assert "| rounds.small | a round | 60 ms | <= 50 ms | **missed** | today |" in page
    assert "24 ms" not in page
    assert "| idle.node | at rest | 90 MB | <= 80 MB | **missed** | yesterday |" in page
    assert page.count("| row | what |") == 1


def test_the_page_has_room_for_the_table() -> None:
    assert updated(PAGE.read_text(), "m", [QUICK], "today").count(BEGIN) == 1
