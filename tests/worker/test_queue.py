"""Who gets the next seat."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from grid.worker.port import Priority
from grid.worker.queue import Full, Queue

FOLD, EVALUATION, TRAINING = Priority


def test_what_others_wait_for_goes_first_and_equals_in_the_order_in_which_they_came() -> None:
    queue = Queue(1, 8)
    first = queue.join(TRAINING)
    assert queue.call() == [first]
    numbers = [queue.join(priority) for priority in (TRAINING, TRAINING, EVALUATION, FOLD)]
    assert queue.call() == []

    order = []
    while queue.taken:
        queue.leave(order[-1] if order else first)
        order += queue.call()

    assert order == [numbers[3], numbers[2], numbers[0], numbers[1]]


def test_a_run_with_many_jobs_does_not_shut_out_a_run_with_one() -> None:
    queue = Queue(2, 8)
    many = [queue.join(TRAINING, "many") for _ in range(4)]
    assert queue.call() == many[:2]
    one = queue.join(TRAINING, "one")

    queue.leave(many[0])

    assert queue.call() == [one]


def test_more_than_may_wait_are_refused_and_a_place_that_is_left_can_be_taken() -> None:
    queue = Queue(1, 1)
    seated, waiting = queue.join(TRAINING), queue.join(TRAINING)
    queue.call()
    with pytest.raises(Full):
        queue.join(FOLD)

    queue.leave(waiting)

    assert queue.join(FOLD) > waiting
    queue.leave(seated)
    queue.leave(seated)
    assert (len(queue.call()), queue.waiting) == (1, 0)


@given(st.lists(st.sampled_from(Priority), max_size=20))
def test_without_runs_it_is_a_stable_sort(priorities: list[Priority]) -> None:
    queue = Queue(1, 20)
    numbers = {queue.join(priority): priority for priority in priorities}
    order: list[int] = []
    while called := queue.call():
        order += called
        queue.leave(called[0])

    assert order == sorted(numbers, key=lambda number: numbers[number])


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens: never more seats than there are, none left empty, nobody passed over."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = Queue(2, 3)
        self.waiting: dict[int, tuple[Priority, str]] = {}
        self.seated: dict[int, str] = {}

    @rule(priority=st.sampled_from(Priority), run=st.sampled_from("abc"))
    def join(self, priority: Priority, run: str) -> None:
        if len(self.waiting) + len(self.seated) == 5:
            with pytest.raises(Full):
                self.queue.join(priority, run)
            return
        self.waiting[self.queue.join(priority, run)] = priority, run
        self._call()

    @precondition(lambda self: self.seated or self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from([*self.seated, *self.waiting]))
        self.seated.pop(number, None)
        self.waiting.pop(number, None)
        self.queue.leave(number)
        self._call()

    def _call(self) -> None:
        for number in self.queue.call():
            held = Counter(self.seated.values())
            priority, run = self.waiting.pop(number)
            better = [n for n, (p, r) in self.waiting.items() if (p, held[r], n) < (priority, held[run], number)]
            assert better == []
            self.seated[number] = run

    @invariant()
    def the_seats_are_used(self) -> None:
        assert (self.queue.taken, self.queue.waiting) == (len(self.seated), len(self.waiting))
        assert len(self.seated) == 2 or not self.waiting


TestAnyOrder = AnyOrder.TestCase
