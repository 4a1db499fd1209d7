"""Who holds whose shares, and what the chances are that this is not enough."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.neighbours import COMPLETE, FAILS, READ, SHARE, Circle, Spread, spread_over
from grid.protocol.secure_sum import usual_threshold
from grid.wire.problems import SumRefused


def circle(count: int, seed: bytes = b"seed") -> Circle:
    return Circle((f"node-{at}" for at in range(count)), usual_threshold(count), seed)


@given(st.integers(3, 700), st.binary(max_size=8))
def test_whoever_holds_shares_of_a_node_has_its_own_held_by_that_node(count: int, seed: bytes) -> None:
    here = circle(count, seed)
    held = {f"node-{at}": set(here.holders(f"node-{at}")) for at in range(count)}

    assert all(node in holders and len(holders) == here.spread.holders for node, holders in held.items())
    assert all(node in held[other] for node, holders in held.items() for other in holders)


def test_up_to_256_everybody_holds_everyones() -> None:
    assert spread_over(COMPLETE, 171) == Spread(256, 256, 171)
    assert set(circle(5).holders("node-1")) == {f"node-{at}" for at in range(5)}


@pytest.mark.parametrize(("nodes", "spread"), [(257, (83, 49)), (500, (111, 66)), (1000, (133, 79)), (4096, (157, 93))])
def test_above_that_few_do_and_their_number_hardly_grows(nodes: int, spread: tuple[int, int]) -> None:
    found = spread_over(nodes, usual_threshold(nodes))

    assert (found.holders, found.needed) == spread
    found.check(colluding=0)
    found.check(colluding=nodes // SHARE)


def test_a_spread_is_the_smallest_that_holds() -> None:
    holders = spread_over(300, usual_threshold(300)).holders - 2

    for weak in (Spread(300, holders, needed) for needed in range(2, holders + 1)):
        assert _is_read(weak) or 300 * _fails(weak) > FAILS


def _is_read(spread: Spread) -> bool:
    try:
        spread.check(0)
    except SumRefused:
        return True
    return False


def _fails(spread: Spread) -> float:
    """How often so many of a node's holders are gone that its mask stays, by another formula: one draw at a time."""
    gone, rest = spread.nodes // SHARE, spread.nodes - 1
    chances = [1.0]
    for drawn in range(spread.holders - 1):
        after = [0.0] * (len(chances) + 1)
        for lost, chance in enumerate(chances):
            share = max(gone - lost, 0) / (rest - drawn)
            after[lost + 1] += chance * share
            after[lost] += chance * (1 - share)
        chances = after
    return sum(chances[spread.holders - spread.needed + 1 :])


def test_the_chance_that_a_sum_fails_is_as_reckoned() -> None:
    spread = spread_over(300, usual_threshold(300))
    assert 300 * _fails(spread) <= FAILS

    lost, draw = 0, random.Random(7)
    weak = Spread(300, 11, 7)
    for _ in range(2000):
        gone = set(draw.sample(range(299), 60))
        lost += sum(at in gone for at in range(10)) > weak.holders - weak.needed
    assert lost / 2000 == pytest.approx(_fails(weak), abs=0.01)


def test_an_order_that_nobody_can_foresee_decides_who_is_near() -> None:
    one, other = (circle(1000, seed).holders("node-1") for seed in (b"a", b"b"))

    assert len(set(one) & set(other)) < 50
    assert READ < 1e-24
