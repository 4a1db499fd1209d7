"""Each process is killed at each named point; the run ends as if nothing had happened.

`GRID_REDRAW=1` writes the table of those that held into `docs/reliability.md`.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import numpy as np
import pytest

from grid.node.faults import POINTS
from tests.killing import ROUNDS, Outcome, outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- matrix: generated -->", "<!-- end of matrix -->"
KILLS = [
    *[("carol", f"{point}:{count}") for point in POINTS[:4] for count in (3, 4)],
    *[("carol", f"{point}:{count}") for point in POINTS[4:9] for count in (1, 3)],
    *[("ann", f"{point}:{count}") for point in POINTS[9:] for count in (1, 3)],
]
"""Who is killed where: among six updates at both of the second round, of three rounds in the first and the last."""

ROLE = {"carol": "coordinator", "ann": "participant"}
held: list[tuple[str, str]] = []


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The run in which nobody is killed."""
    return asyncio.run(outcome(tmp_path_factory.mktemp("undisturbed")))


@pytest.mark.slow
@pytest.mark.parametrize(("who", "fault"), KILLS)
async def test_a_kill_changes_nothing_of_what_a_run_comes_to(
    who: str, fault: str, undisturbed: Outcome, tmp_path: Path
) -> None:
    result = await outcome(tmp_path, who, fault)

    assert result.deaths == 1
    assert (result.state, result.reason) == ("success", "")
    assert result.accepted == [2] * ROUNDS
    assert set(result.counted.values()) == {1}
    assert set(result.counted) == result.acknowledged
    np.testing.assert_allclose(result.model, undisturbed.model, rtol=1e-6)
    held.append((who, fault))


@pytest.mark.slow
def test_the_matrix_is_in_the_docs() -> None:
    if held != KILLS:
        pytest.skip("not all of it was run, or held")
    lines = ["", "| killed | at | the how-manieth time | held |", "| --- | --- | --- | --- |"]
    lines += [f"| {ROLE[who]} | {' | '.join(fault.split(':'))} | yes |" for who, fault in held]
    table = "\n".join([*lines, ""])
    before, _, rest = PAGE.read_text().partition(BEGIN)
    shown, _, after = rest.partition(END)
    if os.environ.get("GRID_REDRAW"):
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}")
    else:
        assert shown == table


def test_every_point_is_in_the_matrix() -> None:
    assert {fault.partition(":")[0] for _, fault in KILLS} == set(POINTS)
