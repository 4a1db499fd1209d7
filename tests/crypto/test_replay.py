"""Each thing happens once, whatever the order and however many come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.crypto.errors import NoncesFull, Replayed
from grid.crypto.replay import NonceCache, ReplayWindow

SIZE = 8
COUNTERS = st.lists(st.integers(0, 40) | st.integers(0, 2**63 - 1))


@given(COUNTERS)
def test_a_counter_is_accepted_once_and_only_while_it_is_recent(counters: list[int]) -> None:
    window, accepted, top = ReplayWindow(SIZE), set[int](), -1
    for counter in counters:
        expected = counter not in accepted and counter > top - SIZE
        assert window.accept(counter) == expected
        if expected:
            accepted.add(counter)
            top = max(top, counter)


@given(st.permutations(range(SIZE)))
def test_requests_that_overtake_each_other_all_arrive(order: list[int]) -> None:
    window = ReplayWindow(SIZE)

    assert all(window.accept(counter) for counter in order)
    assert not any(window.accept(counter) for counter in order)


def test_a_counter_below_zero_is_never_accepted() -> None:
    window = ReplayWindow(SIZE)

    assert not window.accept(-1)
    assert window.accept(0)
    assert not window.accept(-1)


def test_a_nonce_is_taken_once_within_the_window() -> None:
    cache = NonceCache(window=120)
    cache.remember(b"a", 1000)

    with pytest.raises(Replayed):
        cache.remember(b"a", 1120)
    cache.remember(b"a", 1121)


def test_a_full_memory_refuses_rather_than_forgets() -> None:
    cache = NonceCache(window=120, capacity=2)
    cache.remember(b"a", 1000)
    cache.remember(b"b", 1001)

    with pytest.raises(NoncesFull):
        cache.remember(b"c", 1002)
    with pytest.raises(Replayed):
        cache.remember(b"a", 1002)
    cache.remember(b"c", 1121)
    assert len(cache) == 2


NONCES = st.lists(st.tuples(st.binary(min_size=1, max_size=1), st.floats(0, 1000)))


@given(NONCES)
def test_within_a_window_no_nonce_is_taken_twice_even_if_the_clock_is_set_back(
    events: list[tuple[bytes, float]],
) -> None:
    cache, taken, latest = NonceCache(window=100, capacity=4), dict[bytes, float](), 0.0
    for nonce, now in events:
        latest = max(latest, now)
        try:
            cache.remember(nonce, now)
        except (Replayed, NoncesFull):
            continue
        assert latest - taken.get(nonce, -1000.0) > 100
        assert len(cache) <= 4
        taken[nonce] = latest
