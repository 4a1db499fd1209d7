"""The coordinator's side of a secure sum: whatever happens in whatever order, each set is a part of the one before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.summing import (
    BROKEN,
    CONSENTS,
    LEAST,
    LIFTED,
    REVEALS,
    SHARES,
    SUM,
    VECTORS,
    Answered,
    Collected,
    Gone,
    Sum,
    TimeOver,
    advance,
)
from grid.wire.problems import SumRefused

FIVE = frozenset({"ann", "bob", "carol", "dan", "eve"})
NODES = st.sampled_from(sorted(FIVE))
EVENTS = st.one_of(
    NODES.map(Answered),
    NODES.map(Gone),
    st.just(TimeOver()),
    st.frozensets(NODES).map(Collected),
    st.just("answer all"),
)


def after(*events: object, nodes: frozenset[str] = FIVE) -> Sum:
    s = Sum(nodes)
    for event in events:
        s, _ = advance(s, event)
    return s


def everybody(nodes: frozenset[str] = FIVE) -> list[Answered]:
    return [Answered(node) for node in sorted(nodes)]


@given(st.lists(EVENTS, max_size=60))
def test_in_any_order_of_events_nobody_comes_back_into_a_sum_and_few_are_never_enough(events: list[object]) -> None:
    s = Sum(FIVE)
    for event in events:
        told = everybody(s.asked) if event == "answer all" else [event]
        for each in told:
            if not SUM.takes(s, type(each)) or (isinstance(each, Answered) and each.node not in s.asked):
                continue
            s, _ = advance(s, each)
        assert s.survivors <= s.dealers <= s.roster <= FIVE
        if s.state in {VECTORS, CONSENTS, REVEALS, LIFTED}:
            assert len(s.dealers) >= max(s.threshold, LEAST)
        if s.state in {CONSENTS, REVEALS, LIFTED}:
            assert len(s.survivors) >= max(s.threshold, LEAST)
        assert (s.state == BROKEN) == bool(s.reason)


def test_when_all_answer_each_step_is_over_at_once() -> None:
    dealt = after(*everybody(), *everybody())
    assert (dealt.state, dealt.threshold, dealt.dealers) == (VECTORS, 4, FIVE)

    lifted = after(*everybody(), *everybody(), Collected(FIVE), *everybody(), *everybody())
    assert lifted.state == LIFTED


def test_whoever_does_not_answer_in_time_is_left_out() -> None:
    four = FIVE - {"eve"}

    s = after(*everybody(four), TimeOver())

    assert (s.state, s.roster, s.threshold) == (SHARES, four, 3)
    with pytest.raises(SumRefused, match="missed a step"):
        advance(s, Answered("eve"))


def test_a_vector_of_one_who_dealt_no_shares_is_not_in_the_sum() -> None:
    four = FIVE - {"eve"}

    s = after(*everybody(), *everybody(four), TimeOver(), Collected(FIVE))

    assert (s.state, s.survivors) == (CONSENTS, four)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([TimeOver()], "0 nodes told keys, a secure sum needs 3"),
        ([*everybody(), Answered("ann"), TimeOver()], "1 nodes dealt shares, a secure sum needs 4"),
        (
            [*everybody(), *everybody(), Collected(frozenset({"ann"}))],
            "1 nodes handed in vectors, a secure sum needs 4",
        ),
    ],
)
def test_too_few_break_it_and_it_says_where(events: list[object], reason: str) -> None:
    assert after(*events).reason == reason
