"""Which seat gets which GPU."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grid.worker.gpus import Gpu
from grid.worker.placement import REMEMBERED, Placement

TWO = (Gpu("0", "NVIDIA L4"), Gpu("1", "NVIDIA L4"))


def test_the_gpu_with_the_fewest_seats_is_next_and_a_full_one_never() -> None:
    rule = Placement(TWO, most=2)
    got = [rule.take(seat, accelerable=True, run="r") for seat in range(5)]

    assert got == [TWO[0], TWO[1], TWO[0], TWO[1], None]
    assert rule.room == 4


def test_a_seat_that_is_closed_makes_room_on_its_gpu() -> None:
    rule = Placement(TWO, most=1)
    rule.take(1, accelerable=True, run="r")
    rule.take(2, accelerable=True, run="r")
    rule.leave(1)
    rule.leave(1)

    assert rule.seats() == [(TWO[0], 0), (TWO[1], 1)]
    assert rule.take(3, accelerable=True, run="r") == TWO[0]


def test_a_job_that_only_adds_stays_on_the_processor() -> None:
    assert Placement(TWO, most=2).take(1, accelerable=False, run="r") is None


def test_without_gpus_everything_is_on_the_processor() -> None:
    assert Placement((), most=2).take(1, accelerable=True, run="r") is None


def test_a_run_that_failed_on_a_gpu_gets_none_and_others_do() -> None:
    rule = Placement(TWO, most=2)
    rule.avoid("broken", "out of memory")
    rule.avoid("", "of nobody")

    assert rule.take(1, accelerable=True, run="broken") is None
    assert rule.take(2, accelerable=True, run="another") == TWO[0]
    assert rule.take(3, accelerable=True, run="") == TWO[1]


def test_only_so_many_runs_are_remembered() -> None:
    rule = Placement(TWO, most=2)
    for number in range(REMEMBERED + 1):
        rule.avoid(f"run {number}", "broken")

    assert rule.take(1, accelerable=True, run="run 0") == TWO[0]
    assert rule.take(2, accelerable=True, run="run 1") is None


EVENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 12), st.booleans(), st.sampled_from(["a", "b", "c"])))


@given(st.integers(0, 4), st.integers(1, 3), EVENTS)
def test_whatever_happens_no_gpu_is_overfull_and_none_is_idle_while_another_is_shared(
    gpus: int, most: int, events: list[tuple[bool, int, bool, str]]
) -> None:
    rule, seated = Placement([Gpu(str(n)) for n in range(gpus)], most), set()
    for comes, seat, accelerable, run in events:
        if not comes:
            rule.leave(seat)
            seated.discard(seat)
        elif seat not in seated:
            before = dict(rule.seats())
            got = rule.take(seat, accelerable, run)
            assert (got is not None) == (accelerable and any(held < most for held in before.values()))
            assert got is None or before[got] == min(before.values())
            seated |= set() if got is None else {seat}
        assert all(0 <= held <= most for _, held in rule.seats())
        assert sum(held for _, held in rule.seats()) == len(seated) <= rule.room
