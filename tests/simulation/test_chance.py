from __future__ import annotations

import math
import statistics

import numpy as np
from msgspec.structs import replace

from grid.simulation.chance import Purpose, fates, fractions, paces
from grid.simulation.scenario import Scenario

MANY = np.arange(20_000)
HEAVY = Scenario(times="pareto", median=60.0, shape=1.5)


def test_chance_is_the_same_for_the_same_keys_whoever_else_is_asked_for() -> None:
    alone = fractions(7, Purpose.LOST, np.array([123]), turn=4)

    assert alone[0] == fractions(7, Purpose.LOST, MANY, turn=4)[123]
    assert alone[0] != fractions(8, Purpose.LOST, MANY, turn=4)[123]
    assert alone[0] != fractions(7, Purpose.HEARS, MANY, turn=4)[123]
    assert alone[0] != fractions(7, Purpose.LOST, MANY, turn=5)[123]


def test_chance_is_even_and_never_nothing_nor_certain() -> None:
    drawn = fractions(0, Purpose.DRAW, MANY, turn=1)

    counts, _ = np.histogram(drawn, bins=10, range=(0.0, 1.0))
    assert abs(counts - 2000).max() < 5 * math.sqrt(2000 * 0.9)
    assert drawn.min() > 0.0
    assert drawn.max() < 1.0


def test_neighbours_in_turn_and_id_have_nothing_in_common() -> None:
    one, other = (fractions(0, Purpose.DRAW, MANY, turn) for turn in (1, 2))

    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(one[:-1], one[1:])[0, 1]) < 0.03


def test_training_times_have_the_median_and_the_tail_that_were_asked_for() -> None:
    lognormal = paces(replace(HEAVY, times="lognormal", shape=0.5), MANY)
    pareto = paces(HEAVY, MANY)

    assert abs(statistics.median(lognormal) - 60.0) < 2.0
    assert abs(float(np.log(lognormal).std()) - 0.5) < 0.02
    assert abs(statistics.median(pareto) - 60.0) < 2.0
    # P(longer than 8 medians) = 1/2 * 8 ** -1.5
    assert abs(float((pareto > 480.0).mean()) - 0.0221) < 0.005
    assert set(paces(replace(HEAVY, times="fixed"), MANY)) == {60.0}


def test_a_slow_node_is_slow_in_every_turn_and_other_things_befall_it_anew() -> None:
    s = Scenario(lost=0.5, rejected=0.1)
    first, second = fates(s, MANY, 1), fates(s, MANY, 2)

    assert [f.trains for f in first] == [f.trains for f in second]
    assert [f.examples for f in first] == [f.examples for f in second]
    assert [f.vanishes for f in first] != [f.vanishes for f in second]


def test_as_many_are_lost_as_the_scenario_says_and_while_they_train() -> None:
    drawn = fates(Scenario(lost=0.1), MANY, 3)
    lost = [fate for fate in drawn if fate.vanishes < math.inf]

    assert abs(len(lost) / len(drawn) - 0.1) < 0.01
    assert all(0.0 < fate.vanishes < fate.trains for fate in lost)
    assert all(20 <= fate.examples <= 200 for fate in drawn)
