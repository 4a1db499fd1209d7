from __future__ import annotations

from grid.simulation.figures import Figures, quantiles, ratios


def test_quantiles_of_rounds() -> None:
    assert quantiles([float(n) for n in range(101, 0, -1)]) == {"p50": 51.0, "p90": 91.0, "p99": 100.0, "most": 101.0}
    assert quantiles([7.0]) == {"p50": 7.0, "p90": 7.0, "p99": 7.0, "most": 7.0}
    assert quantiles([]) == {}


def test_two_scenarios_are_compared_by_what_they_came_to() -> None:
    slow = Figures("slow", counted=100, worth=100.0, seconds=1000.0, bytes_down=2e6, bytes_up=2e6)
    fast = Figures("fast", counted=200, worth=50.0, seconds=500.0, bytes_down=4e6, bytes_up=4e6)

    assert ratios(slow, fast) == {
        "time for one update": 4.0,
        "bytes for one update": 1.0,
        "time for one weighed update": 1.0,
        "bytes for one weighed update": 0.25,
    }


def test_a_loss_is_compared_only_if_both_reached_it() -> None:
    there = Figures("there", counted=1, worth=1.0, seconds=10.0, bytes_up=10.0, learned=True)
    sooner = Figures("sooner", counted=9, worth=9.0, seconds=2.0, bytes_up=5.0, learned=True)

    assert ratios(there, sooner)["time for the loss"] == 5.0
    assert ratios(there, sooner)["bytes for the loss"] == 2.0
    assert "time for the loss" not in ratios(there, Figures("never", counted=1, worth=1.0, seconds=1.0))


def test_where_nothing_was_counted_nothing_is_compared() -> None:
    assert ratios(Figures("nothing"), Figures("nothing")) == {}
    assert Figures("nothing").plain()["round_quantiles"] == {}
