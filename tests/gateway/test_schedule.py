from __future__ import annotations

from math import inf

from hypothesis import given
from hypothesis import strategies as st

from grid.gateway.schedule import Schedule


def test_those_who_are_due_come_in_order_and_once() -> None:
    schedule = Schedule()
    for node_id, at in [("late", 9.0), ("second", 2.0), ("first", 1.0)]:
        schedule.put(node_id, at)

    assert schedule.take(now=5.0) == ["first", "second"]
    assert schedule.take(now=5.0) == []


def test_a_new_time_replaces_the_old_one() -> None:
    schedule = Schedule()
    schedule.put("alice", 1.0)
    schedule.put("alice", 5.0)

    assert schedule.take(now=4.0) == []
    assert schedule.take(now=5.0) == ["alice"]


def test_a_time_can_be_brought_forward_but_not_put_off_by_no_later() -> None:
    schedule = Schedule()
    for at in (5.0, 3.0, 9.0):
        schedule.no_later("alice", at)

    assert schedule.take(now=2.0) == []
    assert schedule.take(now=3.0) == ["alice"]


def test_whoever_was_dropped_is_never_due() -> None:
    schedule = Schedule()
    schedule.put("alice", 1.0)
    schedule.drop("alice")

    assert schedule.take(now=9.0) == []


def test_a_batch_is_bounded_and_the_rest_stays_due() -> None:
    schedule = Schedule()
    for number in range(5):
        schedule.put(str(number), float(number))

    assert schedule.take(now=9.0, most=3) == ["0", "1", "2"]
    assert schedule.take(now=9.0) == ["3", "4"]


STEPS = st.lists(st.tuples(st.sampled_from(["put", "drop", "take"]), st.sampled_from("abc"), st.integers(0, 9)))


@given(STEPS)
def test_any_order_of_steps_takes_what_a_plain_table_would(steps: list[tuple[str, str, int]]) -> None:
    schedule, table = Schedule(), dict[str, float]()
    for verb, node_id, at in steps:
        if verb == "put":
            schedule.put(node_id, at)
            table[node_id] = at
        elif verb == "drop":
            schedule.drop(node_id)
            table.pop(node_id, None)
        else:
            due = {node_id for node_id, when in table.items() if when <= at}
            assert set(schedule.take(at)) == due
            table = {node_id: when for node_id, when in table.items() if node_id not in due}
        assert len(schedule) == len(table)


def test_it_knows_who_is_next() -> None:
    schedule = Schedule()
    assert schedule.next() == inf

    schedule.put("late", 9.0)
    schedule.put("soon", 1.0)
    schedule.put("soon", 5.0)

    assert schedule.next() == 5.0
    schedule.drop("soon")
    assert schedule.next() == 9.0
