"""Each process is killed at each named point; the run ends as if nothing had happened.

`GRID_REDRAW=1` writes the table of those that held into `docs/reliability.md`.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from grid import faults
from grid.learning.strategy import PRESETS, travelling
from tests.killing import OTHERS, ROUNDS, Daemon, Outcome, kept, outcome

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- matrix: generated -->", "<!-- end of matrix -->"
COORDINATORS = dict(zip(faults.COORDINATOR, (5, 5, 6, 5, 2, 3, 2, 1, 2, 5), strict=True))
SPARES = dict.fromkeys(faults.SPARE, 1)
PARTICIPANTS = dict(zip(faults.PARTICIPANT, (2, 1, 2, 2, 3, 2, 3), strict=True))
TRAINERS = dict.fromkeys(faults.WORKER[:2], 1)
FOLDERS = dict(zip(faults.WORKER[2:], (5, 5, 2), strict=True))
GATEWAYS = dict.fromkeys(faults.GATEWAY, 1)
SPARING = "coordinator, a node being lost"
KILLS = [
    ("carol", "coordinator", COORDINATORS),
    ("carol", SPARING, SPARES),
    ("ann", "participant", PARTICIPANTS),
    ("ann", "participant's worker", TRAINERS),
    ("carol", "coordinator's worker", FOLDERS),
    ("gateway", "gateway", GATEWAYS),
]
ROWS = [(who, role, f"{point}:{count}") for who, role, points in KILLS for point, count in points.items()]
"""Who is killed where: of nine updates at one of the second round, of three rounds in one or another."""

held: list[tuple[str, str, str]] = []


def sound(result: Outcome, wanted: int = len(OTHERS)) -> None:
    """Everything of a run that may not depend on who was killed; `wanted` updates close a round."""
    assert (result.state, result.reason) == ("success", "")
    assert result.accepted == [wanted] * ROUNDS
    assert set(result.counted.values()) == {1}
    assert set(result.counted) == result.acknowledged
    assert result.model == result.replayed
    assert all(len(nodes) >= wanted for nodes in result.measured[:-1])  # the last one waits for nobody who is away


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_a_run_in_which_nobody_is_killed_is_what_computation_alone_makes_of_it(tmp_path: Path) -> None:
    result = await outcome(tmp_path)

    sound(result)
    assert result.deaths == 0


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("who", "role", "fault"), ROWS)
async def test_a_kill_changes_nothing_of_what_a_run_comes_to(who: str, role: str, fault: str, tmp_path: Path) -> None:
    lost = "ann" if role == SPARING else ""

    result = await outcome(tmp_path, who, fault, lost)

    sound(result, 2 if lost else len(OTHERS))
    assert result.deaths == (2 if lost else 1)
    assert result.found == (set(OTHERS) if who == "gateway" else set())
    held.append((who, role, fault))


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("who", "fault"), [("carol", "before-checkpoint:2"), ("ann", "after-finished-row:2")])
async def test_nor_does_one_where_models_go_down_rounded(who: str, fault: str, tmp_path: Path) -> None:
    result = await outcome(tmp_path, who, fault, strategy=travelling(PRESETS["scaffold"], broadcast="bf16"))

    sound(result)
    assert result.deaths == 1


@pytest.mark.slow
def test_the_matrix_is_in_the_docs() -> None:
    if held != ROWS:
        pytest.skip("not all of it was run, or held")
    lines = ["", "| killed | at | the how-manieth time | held |", "| --- | --- | --- | --- |"]
    lines += [f"| {role} | {' | '.join(fault.split(':'))} | yes |" for _, role, fault in held]
    table = "\n".join([*lines, ""])
    before, _, rest = PAGE.read_text().partition(BEGIN)
    shown, _, after = rest.partition(END)
    if os.environ.get("GRID_REDRAW"):
        PAGE.write_text(f"{before}{BEGIN}{table}{END}{after}")
    else:
        assert shown == table


class Misspelt(Daemon):
    """A daemon whose command its program does not understand."""

    @property
    def command(self) -> tuple[str, ...]:
        return (*super().command, "--no-such-flag")


async def test_a_daemon_that_does_not_start_fails_its_test_with_its_log(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as failed:
        async with kept([Misspelt("eve", tmp_path / "eve")]):
            pass

    (why,) = failed.value.exceptions
    assert "eve ended" in str(why)
    assert "--no-such-flag" in str(why)


def test_every_point_is_in_the_matrix() -> None:
    assert [fault.partition(":")[0] for _, _, fault in ROWS] == list(faults.RUN)
