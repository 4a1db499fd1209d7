from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.draw import drawing_order

names = st.sets(st.text(min_size=1, max_size=5), max_size=20)


@given(names, st.text(max_size=5), st.integers(1, 100), st.randoms())
def test_the_order_is_of_all_of_them_whatever_the_order_in_which_they_are_named(
    nodes: set[str], seed: str, number: int, chance: object
) -> None:
    order = drawing_order(nodes, seed, number)

    assert sorted(order) == sorted(nodes)
    assert drawing_order(sorted(nodes, reverse=True), seed, number) == order


@given(names, st.text(min_size=1, max_size=5))
def test_who_else_is_there_does_not_change_who_comes_first(nodes: set[str], other: str) -> None:
    with_other = drawing_order(nodes | {other}, "seed", 1)

    assert [n for n in with_other if n in nodes - {other}] == drawing_order(nodes - {other}, "seed", 1)


def test_each_round_and_each_seed_draws_anew_and_everybody_about_as_often() -> None:
    nodes = [f"node-{i}" for i in range(10)]
    first = [drawing_order(nodes, "seed", number)[0] for number in range(1, 1001)]

    assert drawing_order(nodes, "seed", 1) != drawing_order(nodes, "another", 1)
    assert all(60 < first.count(node) < 140 for node in nodes)
