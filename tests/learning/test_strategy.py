from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from grid.learning.plan import Plan
from grid.learning.strategy import (
    FEDAVG,
    PRESETS,
    Adam,
    Average,
    Bulyan,
    Krum,
    Mean,
    Median,
    MultiKrum,
    Nova,
    Prox,
    Scaffold,
    Strategy,
    TrimmedMean,
    check_recipe,
    fitted,
    least_updates,
    named,
    read_strategy,
    validated,
)
from grid.wire.problems import StrategyRefused


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid_and_survives_json(name: str) -> None:
    data = msgspec.json.decode(msgspec.json.encode(PRESETS[name]))

    assert read_strategy(data) == read_strategy(name) == PRESETS[name]


def test_nothing_said_is_fedavg() -> None:
    assert read_strategy({}) == read_strategy("fedavg") == FEDAVG


def test_numbers_of_a_preset_can_be_given_by_name() -> None:
    assert named("fedadam", lr=0.5, beta2=0.9).server == Adam(lr=0.5, beta2=0.9)
    assert named("fedprox", mu=1.0).client == Prox(mu=1.0)
    assert named("krum", liars=2).aggregation == Krum(liars=2)


@pytest.mark.parametrize(
    ("name", "settings", "word"),
    [
        ("fedsgd", {}, "there are fedavg"),
        ("fedavg", {"mu": 1.0}, "no setting 'mu'"),
        ("fedadam", {"lr": -1.0}, "lr"),
        ("trimmed-mean", {"trim": 0.5}, "trim"),
        ("fedasync", {"alpha": "much"}, "alpha"),
    ],
)
def test_what_is_not_there_or_out_of_bounds_is_refused(name: str, settings: dict[str, object], word: str) -> None:
    with pytest.raises(StrategyRefused, match=word):
        named(name, **settings)


@pytest.mark.parametrize("data", [{"server": {"name": "sgd"}}, {"clients": {}}, {"client": {"name": "prox", "nu": 1}}])
def test_parts_that_nobody_knows_are_refused(data: dict[str, object]) -> None:
    with pytest.raises(StrategyRefused):
        read_strategy(data)


@pytest.mark.parametrize(
    "strategy",
    [
        Strategy(client=Scaffold(), aggregation=Median()),
        Strategy(client=Nova(), aggregation=Krum()),
        Strategy(client=Nova(), timing=PRESETS["fedbuff"].timing),
        Strategy(aggregation=Median(), timing=PRESETS["fedasync"].timing),
        Strategy(server=Adam(), timing=PRESETS["fedasync"].timing),
    ],
)
def test_parts_that_make_each_other_meaningless_are_refused(strategy: Strategy) -> None:
    with pytest.raises(StrategyRefused):
        validated(strategy)


@pytest.mark.parametrize(
    ("aggregation", "least"),
    [
        (Mean(), 1),
        (Krum(liars=2), 7),
        (MultiKrum(liars=1), 5),
        (MultiKrum(liars=1, kept=4), 7),
        (Bulyan(liars=2), 11),
        (TrimmedMean(trim=0.2), 5),
        (TrimmedMean(trim=0.3), 4),
    ],
)
def test_robust_rules_say_how_many_updates_their_promise_needs(aggregation: Krum, least: int) -> None:
    assert least_updates(Strategy(aggregation=aggregation)) == least


def test_a_preset_s_buffer_is_fitted_to_a_small_grid() -> None:
    assert fitted("fedbuff", 3) == named("fedbuff", size=3)
    assert fitted("fedbuff", 30) == PRESETS["fedbuff"]
    assert fitted("fedasync", 3) == PRESETS["fedasync"]


def test_only_what_needs_the_current_model_asks_for_it() -> None:
    asks = {name for name, strategy in PRESETS.items() if strategy.needs_current}

    assert asks == {
        "fedavgm", "fedadagrad", "fedadam", "fedyogi", "fednova", "scaffold", "q-fedavg", "fedbuff", "fedasync",
    }  # fmt: skip
    assert Strategy(server=Average(lr=0.5)).needs_current


def test_rules_about_sgd_refuse_other_optimizers() -> None:
    adam = Plan.linear(3, 2, optimizer="adam").recipe

    check_recipe(PRESETS["scaffold"], Plan.linear(3, 2).recipe)
    check_recipe(PRESETS["fedprox"], adam)
    with pytest.raises(StrategyRefused, match="nova counts steps of sgd"):
        check_recipe(PRESETS["fednova"], adam)


def test_a_daemon_reads_strategies_and_layouts_without_numpy() -> None:
    code = "import sys; import grid.learning.layouts; sys.exit('numpy' in sys.modules or 'torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
