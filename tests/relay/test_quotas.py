"""What one sender or recipient may use of a gateway's room."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.relay.quotas import Quotas
from grid.wire.problems import GridError, MailboxFull, QuotaSpent


def test_a_sender_uses_half_of_the_room_at_most() -> None:
    quotas = Quotas(room=100)
    quotas.reserve("ann", "bob", 30)
    quotas.reserve("ann", "carl", 20)

    with pytest.raises(QuotaSpent):
        quotas.reserve("ann", "dora", 1)
    quotas.reserve("bob", "dora", 50)


def test_a_recipient_is_sent_half_of_the_room_at_most_whoever_sends_it() -> None:
    quotas = Quotas(room=100)
    quotas.reserve("ann", "carl", 25)
    quotas.reserve("bob", "carl", 25)

    with pytest.raises(MailboxFull):
        quotas.reserve("dora", "carl", 1)


def test_the_room_is_for_all() -> None:
    quotas = Quotas(room=100)
    for sender, recipient in ("ab", "cd"):
        quotas.reserve(sender, recipient, 50)

    with pytest.raises(MailboxFull) as refused:
        quotas.reserve("e", "f", 1)
    assert refused.value.retry_after


def test_a_letter_that_was_taken_makes_room_but_still_counts_as_one() -> None:
    quotas = Quotas(room=100, letters=1)
    quotas.reserve("ann", "bob", 50)
    quotas.taken("ann", "bob", 50)

    assert quotas.total == 0
    with pytest.raises(QuotaSpent):
        quotas.reserve("ann", "carl", 1)
    quotas.forgotten("ann", "bob")
    quotas.reserve("ann", "carl", 50)


LETTER = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.integers(0, 60))


@given(st.lists(LETTER, max_size=40))
def test_what_was_reserved_never_exceeds_the_room_and_goes_without_a_trace(letters: list[tuple[str, str, int]]) -> None:
    quotas, held = Quotas(room=100), []
    for letter in letters:
        try:
            quotas.reserve(*letter)
            held.append(letter)
        except GridError:
            assert quotas.total == sum(size for *_, size in held)
        assert quotas.total <= 100
    for sender, recipient, size in held:
        quotas.taken(sender, recipient, size)
        quotas.forgotten(sender, recipient)

    assert quotas.total == 0
    assert not +quotas._bytes
    assert not +quotas._count
