from __future__ import annotations

from grid.simulation.clock import Clock


def test_appointments_are_kept_in_the_order_of_their_times_then_of_their_making() -> None:
    clock, kept = Clock(), list[tuple[float, str]]()

    def note(name: str) -> None:
        kept.append((clock.now, name))

    clock.at(5.0, note, "late")
    clock.at(1.0, note, "one")
    clock.at(1.0, note, "two")
    clock.play()

    assert kept == [(1.0, "one"), (1.0, "two"), (5.0, "late")]


def test_time_does_not_run_backwards() -> None:
    clock, kept = Clock(), list[float]()
    clock.at(3.0, lambda: clock.at(1.0, lambda: kept.append(clock.now)))
    clock.play()

    assert kept == [3.0]


def test_it_stops_when_it_is_told_to() -> None:
    clock, kept = Clock(), list[int]()
    for number in range(5):
        clock.after(float(number), kept.append, number)
    clock.play(stop=lambda: len(kept) == 2)

    assert kept == [0, 1]
