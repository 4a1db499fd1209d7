from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from grid.cli.grid import main
from grid.cli.simulate import span


def grid(*words: str | Path) -> str:
    done = CliRunner().invoke(main, ["simulate", *map(str, words)])
    assert done.exit_code == 0, done.output
    return done.output


def test_a_scenario_is_played_and_shown() -> None:
    shown = grid("bonawitz", "--population", "5000", "--rounds", "3")

    assert "goal, drawn                   300, 390 (1.30 x)" in shown
    assert "at the close of a round       300 to 300" in shown
    assert "rounds complete, invalid      3, 0" in shown


def test_scenarios_under_one_name_are_compared_with_the_first() -> None:
    shown = grid("hospitals", "--rounds", "10")

    assert shown.splitlines()[0].split() == ["eight-needed", "five-needed", "five-first"]
    assert "time for one update           1 x less" in shown


def test_a_file_changes_the_figures_and_flags_change_them_over_it(tmp_path: Path) -> None:
    settings = tmp_path / "policy.toml"
    settings.write_text('goal = 50\ndrawn = 60\nquorum = 20\ncheck-in = 1.5\ntimes = "pareto"\nshape = 1.2\n')

    shown = grid("plain", "--config", settings, "--drawn", "70", "--rounds", "2")

    assert "50, 70 (1.40 x)" in shown


def test_all_figures_can_be_had_as_json(tmp_path: Path) -> None:
    target = tmp_path / "figures.json"
    grid("plain", "--rounds", "2", "--lost", "0.05", "--json", target)

    (played,) = json.loads(target.read_text())
    assert played["scenario"]["lost"] == 0.05
    assert played["figures"]["completed"] == 2
    assert played["figures"]["round_quantiles"].keys() == {"p50", "p90", "p99", "most"}


def test_with_fits_it_plays_until_the_loss_is_reached() -> None:
    assert "loss, fits a second" in grid("plain", "--fit", "--loss", "0.65")


def test_a_scenario_that_makes_no_sense_is_refused_in_one_line() -> None:
    done = CliRunner().invoke(main, ["simulate", "plain", "--quorum", "500"])

    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "error: scenario plain: needs quorum <= goal <= drawn <= population\n"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.5, "0.5 s"), (90.0, "90 s"), (600.0, "10 min"), (9000.0, "2.5 h"), (864_000.0, "10 d")]
)
def test_times_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert span(seconds) == said


@pytest.mark.slow
def test_real_devices_take_part_in_a_round_of_a_node() -> None:
    shown = grid("--real", "40", "--active", "5", "--rate", "100", "--numbers", "1000")

    assert "handed in" in shown
    assert "5 of 5" in shown
    assert "the sum                        exact" in shown
