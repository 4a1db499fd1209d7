from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from grid.simulation.scenario import SCENARIOS, Scenario, checked
from grid.wire.problems import RunRefused


@pytest.mark.parametrize("name", SCENARIOS)
def test_what_is_shipped_can_be_played_and_tells_its_scenarios_apart(name: str) -> None:
    names = [checked(scenario).name for scenario in SCENARIOS[name]]

    assert len(set(names)) == len(names)


def test_bonawitz_draws_thirty_percent_more_than_it_wants() -> None:
    (scenario,) = SCENARIOS["bonawitz"]

    assert (scenario.goal, scenario.drawn, scenario.lost) == (300, 390, 0.1)
    assert scenario.over_selection == 1.3


@pytest.mark.parametrize(
    "changes",
    [
        {"quorum": 101},
        {"goal": 131},
        {"drawn": 1001},
        {"lost": 1.5},
        {"median": float("nan")},
        {"away": 90_000.0},
        {"rounds": 0},
        {"times": "gauss"},
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(RunRefused, match="scenario plain"):
        checked(replace(Scenario(), **changes))
