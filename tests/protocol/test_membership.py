from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.membership import (
    BUSY,
    EXPIRED,
    GRACE,
    JOINING,
    LISTED,
    MEMBERSHIP,
    OFFLINE,
    ONLINE,
    SUSPECT,
    Announce,
    Answered,
    Forget,
    GraceEnded,
    Joined,
    LeaseEnded,
    Left,
    Member,
    Renewed,
    Silent,
    advance,
    due,
    joined,
)
from grid.wire.problems import OutOfTurn


def play(m: Member, *events: object) -> tuple[Member, list[Any]]:
    """The member after these events, and the effects of the last one."""
    effects: tuple[Any, ...] = ()
    for event in events:
        m, effects = advance(m, event)
    return m, list(effects)


def new(verified: bool = True) -> Member:
    return joined("alpha", now=0.0, lease=90.0, verified=verified)


ONLINE_ONE, _ = play(new(), Renewed(0.0, 90.0))


@pytest.mark.parametrize("event", [Answered(1.0, latency=0.02), Renewed(1.0, lease=90.0)])
def test_a_new_member_is_online_once_it_is_heard_from(event: object) -> None:
    assert new().state == JOINING

    m, effects = play(new(), event)

    assert (m.state, effects) == (ONLINE, [Announce(ONLINE)])


def test_a_renewal_that_changes_nothing_is_announced_to_nobody() -> None:
    m, effects = play(ONLINE_ONE, Renewed(30.0, lease=90.0))

    assert (m.lease_ends, effects) == (120.0, [])


def test_a_busy_member_says_so_by_renewal_and_by_answer() -> None:
    assert play(ONLINE_ONE, Renewed(1.0, 90.0, busy=True))[0].state == BUSY
    assert play(ONLINE_ONE, Answered(1.0, 0.01, busy=True))[0].state == BUSY


def test_one_missed_check_makes_a_member_suspect_three_offline_and_an_answer_brings_it_back() -> None:
    m, effects = play(ONLINE_ONE, Silent(1.0))
    assert (m.state, effects) == (SUSPECT, [Announce(SUSPECT)])

    m, effects = play(m, Silent(2.0), Silent(3.0))
    assert (m.state, effects) == (OFFLINE, [Announce(OFFLINE)])

    m, effects = play(m, Answered(4.0, 0.01))
    assert (m.state, m.failures, effects) == (ONLINE, 0, [Announce(ONLINE)])


def test_a_member_that_never_answered_is_offline_after_three_checks() -> None:
    assert play(new(), Silent(1.0), Silent(2.0))[0].state == JOINING
    assert play(new(), Silent(1.0), Silent(2.0), Silent(3.0))[0].state == OFFLINE


def test_a_lease_that_was_renewed_since_the_timer_was_set_has_not_ended() -> None:
    m, _ = play(ONLINE_ONE, Renewed(60.0, 90.0))

    assert play(m, LeaseEnded(90.0)) == (m, [])
    assert play(m, LeaseEnded(due(m)))[0].state == OFFLINE


def test_an_answer_may_carry_a_lease_for_nodes_that_never_renew() -> None:
    m, _ = play(ONLINE_ONE, Answered(60.0, 0.01, lease=90.0))
    assert m.lease_ends == 150.0

    assert play(m, Answered(61.0, 0.01))[0].lease_ends == 150.0


def test_an_offline_member_is_forgotten_after_the_grace_and_not_before() -> None:
    m, _ = play(ONLINE_ONE, LeaseEnded(90.0))
    assert play(m, GraceEnded(91.0)) == (m, [])
    assert due(m) == 90.0 + GRACE

    m, effects = play(m, GraceEnded(due(m)))
    assert (m.state, effects) == (EXPIRED, [Announce(EXPIRED), Forget()])
    with pytest.raises(OutOfTurn):
        advance(m, Renewed(1.0, 90.0))


def test_a_member_that_leaves_is_forgotten_at_once() -> None:
    assert play(new(), Left())[1] == [Announce(EXPIRED), Forget()]


def test_a_signed_member_that_joins_again_stays_online() -> None:
    m, effects = play(ONLINE_ONE, Silent(1.0), Joined(50.0, 90.0))

    assert (m.state, m.lease_ends, m.failures, effects) == (ONLINE, 140.0, 0, [Announce(ONLINE)])


def test_an_unsigned_join_proves_nothing() -> None:
    online, _ = play(new(verified=False), Answered(1.0, 0.01))

    assert play(online, Joined(50.0, 90.0))[0].state == JOINING


def test_a_member_that_was_offline_and_joins_again_is_joining() -> None:
    assert play(ONLINE_ONE, LeaseEnded(90.0), Joined(95.0, 90.0))[0].state == JOINING


times = st.floats(min_value=0.0, max_value=3 * GRACE)
leases = st.floats(min_value=0.0, max_value=300.0)
events = st.one_of(
    st.builds(Joined, times, leases),
    st.builds(Renewed, times, leases, st.booleans()),
    st.builds(Answered, times, leases, st.booleans(), leases),
    st.builds(Silent, times),
    st.builds(LeaseEnded, times),
    st.builds(GraceEnded, times),
    st.builds(Left),
)


@given(st.booleans(), st.lists(events, max_size=30))
def test_whatever_happens_changes_are_announced_once_and_silence_ends_in_oblivion(
    verified: bool, story: list[object]
) -> None:
    m = new(verified)
    for event in story:
        if not MEMBERSHIP.takes(m, type(event)):
            continue
        before, (m, effects) = m, advance(m, event)
        assert [e for e in effects if isinstance(e, Announce)] == [Announce(m.state)] * (m.state != before.state)
        assert (Forget() in effects) == (m.state == EXPIRED)
        assert m.failures == 0 or m.state not in {ONLINE, BUSY}

    while m.state != EXPIRED:
        m, _ = advance(m, (LeaseEnded if m.state in LISTED else GraceEnded)(due(m)))
