"""Rounds in memory: events and fits a second of one core, memory of those who are idle, and what policies come to.

Rates are per second of processor time of the whole simulation: lots, heap, rules, fits and sums; medians of turns.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from benchmarks.machine import peak_rss
from benchmarks.row import Row
from grid.simulation.course import simulate
from grid.simulation.figures import Figures, ratios
from grid.simulation.fits import Fits, Task
from grid.simulation.scenario import SCENARIOS, Scenario

(BONAWITZ,) = SCENARIOS["bonawitz"]
PHONES = replace(BONAWITZ, joins=0.0)
TURNS = 3
EVERYBODY = 15_000_000


def cpu(work: Callable[[], Figures]) -> tuple[Figures, float]:
    """What came of it, and the processor seconds it took."""
    began = time.process_time()
    figures = work()
    return figures, time.process_time() - began


def event_rate(scenario: Scenario) -> float:
    """Machine events a second."""

    def once() -> float:
        figures, seconds = cpu(lambda: simulate(scenario))
        assert figures.completed == scenario.rounds
        return figures.machine_events / seconds

    return statistics.median(once() for _ in range(TURNS))


def fit_rate(clients: int, fits: int, turns: int) -> float:
    """Fits a second where every one of the clients fits in every round."""
    scenario = replace(
        PHONES,
        population=clients,
        goal=clients,
        drawn=clients,
        quorum=1,
        lost=0.0,
        deadline=1e6,
        rounds=fits // clients,
    )

    def once() -> float:
        learner = Fits(Task())
        _, seconds = cpu(lambda: simulate(scenario, learner))
        assert learner.fitted == fits
        return learner.fitted / seconds

    return statistics.median(once() for _ in range(turns))


def cohort(size: int = 100, crowd: int = 100_000, rounds: int = 100) -> float:
    """Fits a second of a cohort drawn from many who are registered, of the rate where it is everybody; in turns."""

    def once(population: int) -> float:
        drawn = {"goal": size, "drawn": size, "quorum": 1, "lost": 0.0, "deadline": 1e6}
        scenario, learner = replace(PHONES, population=population, rounds=rounds, **drawn), Fits(Task())
        _, seconds = cpu(lambda: simulate(scenario, learner))
        assert learner.fitted == size * rounds
        return learner.fitted / seconds

    return statistics.median(once(crowd) / once(size) for _ in range(TURNS))


def crowd() -> float:
    """Peak memory of a process that plays rounds of a thousand out of fifteen million, MB."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_crowd)


def _crowd() -> float:
    figures = simulate(replace(BONAWITZ, population=EVERYBODY, goal=1000, drawn=1300, quorum=800))
    assert figures.completed == BONAWITZ.rounds
    return peak_rss(os.getpid())


def rows() -> Iterator[Row]:
    """The rows for `python -m benchmarks`."""
    for short, goal, rounds in (("1k", 1_000, 20), ("10k", 10_000, 4)):
        scenario = replace(PHONES, goal=goal, drawn=goal * 13 // 10, quorum=goal // 2, rounds=rounds)
        what = f"machine events a second, rounds of {scenario.drawn:,} nodes out of a million"
        yield Row(f"simulation.{short}", what, event_rate(scenario), "/s", least=50_000)
    joining = replace(BONAWITZ, joins=300.0)
    yield Row("simulation.joins", "the same with 300 joins a second", event_rate(joining), "/s", least=50_000)
    few, many = fit_rate(100, 10_000, TURNS), fit_rate(100_000, 100_000, 1)
    yield Row("simulation.fits", "real fits a second, rounds of 100 clients", few, "/s", least=2000)
    yield Row("simulation.fits.many", "the same in one round of 100,000 clients", many, "/s", least=2000)
    yield Row("simulation.fits.flat", "of the rate with 100 clients, the rate with 100,000", many / few, "x", least=0.5)
    yield Row(
        "simulation.cohort", "rounds of 100 out of 100,000 registered, of the fits out of 100", cohort(), "x", least=0.5
    )
    yield Row("simulation.memory", "15,000,000 ids, rounds of 1,000: peak of the process", crowd(), "MB", most=1000)
    yield from policies()


def policies() -> Iterator[Row]:
    """What the shipped scenarios come to; simulated, so the same on every machine."""
    figures = simulate(BONAWITZ)
    closed = sum(count == BONAWITZ.goal for count in figures.counted_at_close) / BONAWITZ.rounds
    what = "goal 300, drawn 390, 10 % lost: rounds that close with 300 updates"
    yield Row("simulation.bonawitz", what, 100 * closed, "%", least=100)
    synchronous, buffered = (simulate(s, Fits(Task(loss=0.38))) for s in SCENARIOS["papaya"][:2])
    for name, ratio in ratios(synchronous, buffered).items():
        if name.endswith(("one update", "the loss")):
            yield Row("simulation.papaya", f"synchronous, of buffered: {name}", ratio, "x")
