from __future__ import annotations

import resource

import numpy as np
import pytest
from msgspec.structs import replace

from grid.simulation.clock import Clock
from grid.simulation.figures import Figures
from grid.simulation.population import LEASE, Population
from grid.simulation.scenario import Scenario

HUNDRED = Scenario(population=100)


def people(scenario: Scenario = HUNDRED) -> tuple[Population, Clock, Figures]:
    clock, figures = Clock(), Figures("test")
    return Population(scenario, clock, figures), clock, figures


@pytest.mark.parametrize("size", [100, 10_000])
def test_nobody_is_drawn_twice_until_released(size: int) -> None:
    population, _, _ = people(replace(HUNDRED, population=size))

    first = population.draw(50, 1)
    second = population.draw(50, 2)
    assert len({*first.tolist(), *second.tolist()}) == 100

    population.put_back(first)
    population.release(int(second[0]))
    assert len(population.draw(size, 3)) == size - 49


def test_who_is_there_is_drawn_evenly() -> None:
    population, _, _ = people(replace(HUNDRED, population=1000))
    times = np.zeros(1000)
    for turn in range(400):
        drawn = population.draw(100, turn)
        times[drawn] += 1
        population.put_back(drawn)

    assert abs(times.mean() - 40.0) < 1e-9
    assert 15 < times.min() < times.max() < 70  # four standard deviations of a binomial


def test_whoever_is_lost_is_not_drawn_until_it_is_back() -> None:
    population, clock, figures = people()
    population.lose(int(population.draw(100, 1)[0]))
    population.put_back(np.arange(100))  # even if its round forgot it

    clock.play(stop=lambda: clock.now >= LEASE)
    assert len(population.draw(100, 2)) == 99

    clock.play()
    assert clock.now == HUNDRED.away
    assert len(population.draw(100, 3)) == 1
    assert figures.machine_events == 2  # the lease ended, and was renewed


def test_whoever_is_back_before_its_lease_ended_was_never_away() -> None:
    population, clock, _ = people(replace(HUNDRED, away=30.0))
    population.lose(int(population.draw(1, 1)[0]))
    clock.play()

    assert len(population.draw(100, 2)) == 100


def test_newcomers_join_at_the_rate_of_the_scenario_and_are_drawn_like_others() -> None:
    population, clock, figures = people(replace(HUNDRED, joins=2.0))
    population.grow()
    clock.play(stop=lambda: clock.now >= 1000.0)
    population.growing = False

    assert abs(figures.joined - 2000) < 200
    assert population.size == 100 + figures.joined
    assert len(population.draw(10_000, 1)) == population.size


def test_ids_that_are_idle_take_ten_bytes_each() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    population, _, _ = people(replace(HUNDRED, population=3_000_000))
    assert len(population.draw(1000, 1)) == 1000

    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 3_000_000 * 10 + 8_000_000
