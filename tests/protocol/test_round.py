from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.round import (
    AGGREGATING,
    CLOSING,
    COLLECTING,
    COMPLETE,
    INVALID,
    ROUND,
    WAITING,
    Abandon,
    DeadlinePassed,
    NodeCommitted,
    NodeFailed,
    Policy,
    Publish,
    Refuse,
    Resumed,
    Round,
    SpareDrawn,
    Stopped,
    Sum,
    SumFailed,
    SumReady,
    UpdateAccepted,
    UpdateRejected,
    UploadArrived,
    UploadBegan,
    UploadBroken,
    WakeAt,
    admit_commit,
    admit_result,
    admit_update,
    advance,
    falls_short,
    lacking,
    needs,
    open_round,
    settled,
    why_closed,
)
from grid.wire.problems import (
    GridError,
    NoParticipants,
    NotInvited,
    RoundClosed,
    RunRefused,
    UpdateRefused,
    UpdateRepeated,
)

THREE = frozenset({"alice", "bob", "carol"})
TWO_OF_THREE = Policy(quorum=2, target=3, deadline=100.0, grace=10.0)


def play(r: Round, *events: object) -> tuple[Round, list[Any]]:
    """The round after these events, and the effects of the last one."""
    effects: tuple[Any, ...] = ()
    for event in events:
        r, effects = advance(r, event)
    return r, list(effects)


def opened(policy: Policy = TWO_OF_THREE, invited: frozenset[str] = THREE) -> Round:
    return open_round(1, policy, invited, at=0.0)


def handed_in(*nodes: str, weight: float = 10.0) -> list[object]:
    return [e for node in nodes for e in (UploadBegan(node, 5.0), UpdateAccepted(node, weight, 6.0))]


# --- how a round ends -------------------------------------------------------------------------


def test_a_round_with_all_updates_in_is_summed_and_published() -> None:
    r, effects = play(opened(), *handed_in("bob", "alice", "carol"))
    assert r.state == AGGREGATING
    assert effects == [Sum((("bob", 10.0), ("alice", 10.0), ("carol", 10.0)))]

    r, effects = play(r, SumReady())
    assert (r.state, effects) == (COMPLETE, [Publish()])


def test_a_straggler_does_not_hold_the_round() -> None:
    r, effects = play(opened(), *handed_in("alice", "bob"), NodeCommitted("carol"), DeadlinePassed(100.0))

    assert r.state == AGGREGATING
    assert effects == [Sum((("alice", 10.0), ("bob", 10.0)))]


def test_a_round_closes_once_everybody_has_answered_or_failed() -> None:
    r, effects = play(opened(), *handed_in("alice", "bob"), NodeFailed("carol", "gone"))

    assert (r.state, effects) == (AGGREGATING, [Sum((("alice", 10.0), ("bob", 10.0)))])


def test_the_target_closes_a_round_before_all_have_answered() -> None:
    r, _ = play(opened(Policy(quorum=1, target=2, deadline=100.0)), *handed_in("alice", "bob"))

    assert r.state == AGGREGATING


def test_a_deadline_below_the_quorum_makes_the_round_invalid() -> None:
    r, effects = play(opened(), *handed_in("alice"), DeadlinePassed(100.0))

    assert r.state == INVALID
    assert effects == [Abandon("1 updates of 3 nodes, the quorum is 2")]


def test_a_round_is_given_up_as_soon_as_its_quorum_is_out_of_reach() -> None:
    r, _ = play(opened(), NodeFailed("alice", "gone"))
    assert r.state == WAITING

    r, effects = play(r, UploadBegan("bob", 1.0), UpdateRejected("bob", "not finite"))
    assert r.state == INVALID
    assert effects == [Abandon(r.reason)]


def test_a_round_that_nobody_took_up_is_invalid_at_its_deadline() -> None:
    assert play(opened(), DeadlinePassed(100.0))[0].state == INVALID


@pytest.mark.parametrize("ending", [SumFailed("disk full"), Stopped("by its owner")])
def test_a_sum_that_fails_or_a_stop_abandons_the_round(ending: SumFailed | Stopped) -> None:
    r, effects = play(opened(), *handed_in("alice", "bob", "carol"), ending)

    assert (r.state, r.reason, effects) == (INVALID, ending.reason, [Abandon(ending.reason)])


# --- closing ----------------------------------------------------------------------------------


def test_an_upload_begun_before_the_deadline_is_waited_for() -> None:
    r, effects = play(opened(), *handed_in("alice", "bob"), UploadBegan("carol", 99.0), DeadlinePassed(100.0))
    assert (r.state, effects) == (CLOSING, [WakeAt(110.0)])

    r, _ = play(r, UpdateAccepted("carol", 3.0, 105.0))
    assert r.state == AGGREGATING
    assert r.accepted == {"alice": 10.0, "bob": 10.0, "carol": 3.0}


def test_an_upload_longer_than_the_grace_is_refused() -> None:
    r, effects = play(
        opened(), *handed_in("alice", "bob"), UploadBegan("carol", 99.0), DeadlinePassed(100.0), DeadlinePassed(110.0)
    )

    assert r.state == AGGREGATING
    assert effects == [Refuse(("carol",)), Sum((("alice", 10.0), ("bob", 10.0)))]
    with pytest.raises(RoundClosed):
        admit_result(r, "carol")


def test_an_update_that_is_here_as_a_whole_is_lost_neither_to_the_grace_nor_to_its_nodes_silence() -> None:
    """While it is written to disk, which takes a moment, the round may not decide otherwise."""
    r, effects = play(
        opened(),
        *handed_in("alice", "bob"),
        UploadBegan("carol", 99.0),
        DeadlinePassed(100.0),
        UploadArrived("carol"),
        DeadlinePassed(110.0),
        NodeFailed("carol", "gone"),
    )
    assert (r.state, effects) == (CLOSING, [])

    r, _ = play(r, UpdateAccepted("carol", 10.0, 111.0))
    assert (r.state, list(r.accepted)) == (AGGREGATING, ["alice", "bob", "carol"])


def test_an_update_that_arrived_is_judged_whatever_happens_but_a_stop() -> None:
    r, _ = play(opened(), UploadBegan("alice", 1.0), UploadArrived("alice"), NodeFailed("alice", "gone"))
    assert "alice" not in r.failed

    with pytest.raises(RoundClosed):
        admit_result(play(r, Stopped())[0], "alice")


def test_the_timer_of_the_deadline_does_not_cut_off_a_round_that_closed_early() -> None:
    early = Policy(quorum=1, target=1, deadline=100.0, grace=200.0)
    r, _ = play(opened(early), UploadBegan("bob", 1.0), *handed_in("alice"))
    assert (r.state, r.ends) == (CLOSING, 206.0)

    assert play(r, DeadlinePassed(100.0)) == (r, [])


def test_a_timer_that_rings_early_changes_nothing() -> None:
    r, _ = play(opened(), NodeCommitted("alice"))

    assert play(r, DeadlinePassed(99.9)) == (r, [])


def test_an_upload_that_breaks_may_begin_again_until_the_round_closes() -> None:
    r, _ = play(opened(), UploadBegan("alice", 1.0), UploadBroken("alice"))
    admit_update(r, "alice", 2.0)

    r, _ = play(r, *handed_in("bob", "carol"), UploadBegan("alice", 99.0), DeadlinePassed(100.0), UploadBroken("alice"))
    assert r.state == AGGREGATING
    assert list(r.failed) == ["alice"]


# --- who is let in ----------------------------------------------------------------------------


def test_a_node_that_was_not_invited_is_told_so_whatever_the_state() -> None:
    for r in (opened(), play(opened(), Stopped())[0]):
        with pytest.raises(NotInvited):
            admit_update(r, "mallory", 1.0)
        with pytest.raises(NotInvited):
            admit_commit(r, "mallory")
        with pytest.raises(NotInvited):
            admit_result(r, "mallory")


def test_an_update_after_the_deadline_is_late_even_before_the_timer_rings() -> None:
    r, _ = play(opened(), NodeCommitted("alice"))

    with pytest.raises(RoundClosed, match="deadline of round 1"):
        admit_update(r, "alice", 100.1)


def test_a_node_that_lost_our_answer_learns_that_its_update_was_counted() -> None:
    r, _ = play(opened(), *handed_in("alice", "bob", "carol"), SumReady())

    with pytest.raises(UpdateRepeated):
        admit_update(r, "alice", 500.0)


def test_two_uploads_of_one_node_at_once_are_one_too_many() -> None:
    r, _ = play(opened(), UploadBegan("alice", 1.0))

    with pytest.raises(UpdateRepeated) as refused:
        admit_update(r, "alice", 2.0)
    assert refused.value.retry_after is not None


def test_a_rejected_update_is_final_and_the_reason_is_repeated() -> None:
    r, _ = play(opened(), UploadBegan("alice", 1.0), UpdateRejected("alice", "not finite"))

    with pytest.raises(UpdateRefused, match="not finite"):
        admit_update(r, "alice", 2.0)


def test_a_node_that_was_gone_may_come_back_while_the_round_collects() -> None:
    r, _ = play(opened(), NodeFailed("alice", "gone"), *handed_in("alice", "bob"))

    assert r.state == COLLECTING
    assert r.failed == {}


def test_what_was_accepted_stays_when_its_node_goes_away() -> None:
    r, _ = play(opened(), *handed_in("alice"), NodeFailed("alice", "gone"))

    assert list(r.accepted) == ["alice"]
    assert not r.failed


def test_commitments_are_not_taken_by_a_round_that_is_closing() -> None:
    r, _ = play(opened(), *handed_in("alice", "bob"), UploadBegan("carol", 9.0), DeadlinePassed(100.0))

    with pytest.raises(RoundClosed, match="round 1 is closing"):
        admit_commit(r, "alice")


def test_an_update_whose_upload_never_began_is_not_counted() -> None:
    with pytest.raises(RoundClosed):
        play(opened(), NodeCommitted("alice"), UpdateAccepted("alice", 1.0, 1.0))


# --- opening ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "policy", [Policy(0, 1, 1.0), Policy(2, 1, 1.0), Policy(1, 1, 0.0), Policy(1, 1, float("nan"))]
)
def test_a_policy_that_contradicts_itself_is_refused(policy: Policy) -> None:
    with pytest.raises(RunRefused):
        opened(policy)


def test_a_round_with_fewer_nodes_than_its_quorum_does_not_open() -> None:
    with pytest.raises(NoParticipants):
        opened(invited=frozenset({"alice"}))


# --- a coordinator that was killed ------------------------------------------------------------


def test_a_coordinator_killed_while_collecting_goes_on_with_what_it_had_accepted() -> None:
    before, _ = play(opened(), *handed_in("alice"), UploadBegan("bob", 7.0))

    r, effects = play(before, Resumed())
    assert effects == [WakeAt(100.0)]
    assert r.accepted == before.accepted
    assert play(r, *handed_in("bob", "carol"))[0].state == AGGREGATING


def test_a_coordinator_killed_while_closing_closes_without_the_lost_upload() -> None:
    r, effects = play(
        opened(), *handed_in("alice", "bob"), UploadBegan("carol", 99.0), DeadlinePassed(100.0), Resumed()
    )

    assert (r.state, list(r.failed)) == (AGGREGATING, ["carol"])
    assert effects == [Sum((("alice", 10.0), ("bob", 10.0)))]


def test_a_node_is_needed_while_the_quorum_cannot_be_reached_without_it() -> None:
    three = opened(Policy(quorum=2, target=3, deadline=100.0))
    assert not needs(three, "alice")

    two, _ = play(three, NodeFailed("bob", "gone"))
    assert [needs(two, node) for node in ("alice", "bob", "carol", "eve")] == [True, False, True, False]

    one, _ = play(two, *handed_in("alice"))
    assert [needs(one, node) for node in ("alice", "carol")] == [False, True]
    assert not needs(play(one, *handed_in("carol"))[0], "carol")


def test_a_round_is_settled_when_no_update_to_come_would_change_its_end() -> None:
    three = opened(Policy(quorum=2, target=2, deadline=100.0))
    assert not settled(three)
    assert settled(play(three, *handed_in("alice", "bob"))[0])
    assert settled(play(three, NodeFailed("alice", ""), NodeFailed("bob", ""))[0])


def test_a_coordinator_killed_while_aggregating_sums_the_same_updates_again() -> None:
    r, first = play(opened(), *handed_in("carol", "alice", "bob"))

    assert play(r, Resumed()) == (r, first)


# --- spares -----------------------------------------------------------------------------------


def test_a_spare_that_is_drawn_before_a_node_is_lost_keeps_the_round_open_for_its_target() -> None:
    two = opened(Policy(quorum=1, target=2, deadline=100.0), frozenset({"alice", "bob"}))
    r, _ = play(two, *handed_in("alice"))
    lost = NodeFailed("bob", "gone")
    assert falls_short(r, lost)

    without, _ = play(r, lost)
    with_spare, _ = play(r, SpareDrawn("dave"), lost)

    assert (without.state, with_spare.state) == (AGGREGATING, COLLECTING)
    assert play(with_spare, *handed_in("dave"))[1] == [Sum((("alice", 10.0), ("dave", 10.0)))]


def test_no_spare_is_called_for_while_more_were_drawn_than_the_target_needs() -> None:
    r = opened(Policy(quorum=1, target=2, deadline=100.0))
    assert not falls_short(r, NodeFailed("alice", "gone"))

    r, _ = play(r, NodeFailed("alice", "gone"))

    assert not lacking(r)
    assert falls_short(r, NodeFailed("bob", "gone"))
    assert not falls_short(r, NodeFailed("alice", "gone"))  # it was lost before
    assert lacking(play(r, NodeFailed("bob", "gone"))[0])


def test_a_spare_cannot_be_drawn_into_a_round_that_takes_nobody_any_more() -> None:
    r, _ = play(opened(), *handed_in("alice", "bob", "carol"))

    with pytest.raises(GridError):
        advance(r, SpareDrawn("dave"))


def test_a_round_says_why_it_closed() -> None:
    two_of_three = opened(Policy(quorum=1, target=2, deadline=100.0))
    reached, _ = play(two_of_three, *handed_in("alice", "bob"))
    late, _ = play(two_of_three, *handed_in("alice"), DeadlinePassed(100.0))
    alone, _ = play(two_of_three, *handed_in("alice"), NodeFailed("bob", ""), NodeFailed("carol", ""))
    nobody, _ = play(two_of_three, DeadlinePassed(100.0))

    assert [why_closed(r) for r in (reached, late, alone, nobody)] == [
        "its target of 2 updates was reached",
        "its deadline of 100 s had passed",
        "there was nobody left to wait for",
        "0 updates of 3 nodes, the quorum is 1",
    ]


# --- any order of events ----------------------------------------------------------------------

nodes = st.sampled_from(["alice", "bob", "carol", "dave", "mallory"])
times = st.floats(min_value=0.0, max_value=130.0)
events = st.one_of(
    st.builds(NodeCommitted, nodes),
    st.just(SpareDrawn("dave")),
    st.builds(UploadBegan, nodes, times),
    st.builds(UploadArrived, nodes),
    st.builds(UploadBroken, nodes),
    st.builds(UpdateAccepted, nodes, st.floats(min_value=1.0, max_value=1e6), times),
    st.builds(UpdateRejected, nodes, st.just("no")),
    st.builds(NodeFailed, nodes, st.just("gone")),
    st.builds(DeadlinePassed, times),
    st.sampled_from([SumReady(), SumFailed("no"), Stopped(), Resumed()]),
)
policies = st.integers(1, 3).flatmap(
    lambda quorum: st.builds(Policy, st.just(quorum), st.integers(quorum, 4), st.just(100.0), st.just(10.0))
)


def steps(r: Round, story: list[object]) -> list[tuple[Round, object, Round]]:
    """(before, event, after) of every event that was taken; a refused one changes nothing."""
    taken = []
    for event in story:
        try:
            after, _ = advance(r, event)
        except GridError:
            continue
        taken.append((r, event, after))
        r = after
    return taken


@given(policies, st.lists(events, max_size=40))
def test_only_invited_nodes_are_counted_each_once_and_none_after_closing(policy: Policy, story: list[object]) -> None:
    for before, event, after in steps(opened(policy), story):
        settled = [*after.accepted, *after.rejected, *after.failed]
        assert len(settled) == len(set(settled))
        assert {*settled, *after.uploading, *after.committed} <= after.invited <= THREE | {"dave"}
        assert before.invited <= after.invited
        assert after.arrived <= after.uploading
        assert not after.uploading & set(settled)
        assert set(after.accepted) <= after.committed
        assert list(after.accepted)[: len(before.accepted)] == list(before.accepted)  # nothing accepted is lost
        if isinstance(event, UpdateAccepted):
            assert event.node in before.uploading
        if not isinstance(event, (UpdateAccepted, UpdateRejected, UploadBroken, Resumed, Stopped)):
            assert before.arrived <= after.arrived or after.state == INVALID
        if before.state not in {WAITING, COLLECTING}:
            assert after.uploading <= before.uploading  # no upload begins
        if before.state not in {COLLECTING, CLOSING}:
            assert after.accepted == before.accepted


@given(policies, st.lists(events, max_size=40))
def test_a_round_that_is_summed_has_its_quorum_and_waits_for_nobody(policy: Policy, story: list[object]) -> None:
    for _, _, after in steps(opened(policy), story):
        if after.state in {AGGREGATING, COMPLETE}:
            assert len(after.accepted) >= policy.quorum
        if after.state in {WAITING, COLLECTING}:
            assert len(after.accepted) + after.pending >= policy.quorum
        if after.state not in {COLLECTING, CLOSING}:
            assert not after.uploading
        assert (after.state == CLOSING) <= bool(after.uploading)


@given(policies, st.lists(events, max_size=40))
def test_with_a_spare_for_whoever_is_lost_nothing_but_time_closes_a_round_below_its_target(
    policy: Policy, story: list[object]
) -> None:
    r, spares = opened(policy), 0
    for event in story:
        before = r
        if isinstance(event, (NodeFailed, UpdateRejected)) and falls_short(r, event):
            r, _ = advance(r, SpareDrawn(f"spare {spares}"))
            spares += 1
        try:
            r, _ = advance(r, event)
        except GridError:
            continue
        if before.state in {WAITING, COLLECTING} and r.state not in {WAITING, COLLECTING}:
            reached = len(r.accepted) >= min(policy.target, len(THREE))
            assert reached or isinstance(event, (DeadlinePassed, Stopped))


@given(policies, st.lists(events, max_size=40))
def test_time_ends_every_round(policy: Policy, story: list[object]) -> None:
    taken = steps(opened(policy), story)
    r = taken[-1][2] if taken else opened(policy)

    while not ROUND.final(r.state):
        for node in r.arrived:  # judging takes its time, and ends
            r, _ = advance(r, UploadBroken(node))
        if not ROUND.final(r.state):
            r, _ = advance(r, SumReady() if r.state == AGGREGATING else DeadlinePassed(r.ends))

    assert r.state in {COMPLETE, INVALID}


@given(policies, st.lists(events, max_size=40))
def test_the_events_that_were_taken_replay_to_the_same_round(policy: Policy, story: list[object]) -> None:
    taken = steps(opened(policy), story)
    end = taken[-1][2] if taken else opened(policy)

    again, _ = play(opened(policy), *(event for _, event, _ in taken))

    assert again == end
    assert msgspec.json.decode(msgspec.json.encode(end), type=Round) == end
