"""Steps that wait for nobody: what is late counts later, once, and not for ever."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol import round as rounds
from grid.protocol.round import Policy, Round
from grid.protocol.staleness import Steps, admit_late, staleness, step_policy
from grid.wire.problems import NotInvited, RoundClosed, UpdateRefused

NODES = ("ann", "bob", "cid", "dan")
LAST = 6


def opened(number: int, steps: Steps) -> Round:
    policy = step_policy(Policy(quorum=1, target=4, deadline=60.0), steps)
    return rounds.open_round(number, policy, frozenset(NODES), 0.0)


def after(r: Round, *events: object) -> Round:
    for event in events:
        r, _ = rounds.advance(r, event)
    return r


def counted(r: Round, node: str) -> Round:
    return after(r, rounds.UploadBegan(node, 1.0), rounds.UploadArrived(node), rounds.UpdateAccepted(node, 1.0, 1.0))


moves = st.lists(st.tuples(st.sampled_from(NODES), st.integers(0, 3)), max_size=60)


@given(st.integers(1, 4), st.integers(0, 3), moves)
def test_every_step_has_its_size_and_whatever_counts_counts_once_and_is_not_too_old(
    size: int, oldest: int, moves: list[tuple[str, int]]
) -> None:
    steps = Steps(size, oldest)
    r, done, closed = opened(1, steps), set[tuple[str, int]](), list[Round]()
    for node, old in moves:
        base = r.number - old
        if (node, base) in done:
            continue  # its row says so: it is told that it was counted
        try:
            assert admit_late(r, node, base, steps, LAST, 1.0) or r.state == rounds.AGGREGATING
        except RoundClosed:
            assert base < 1 or old > oldest or node in r.accepted or r.number == LAST
            continue
        assert staleness(r, base) == old <= oldest
        r = counted(r, node)
        done.add((node, base))
        if r.state == rounds.AGGREGATING:
            closed.append(r)
            if r.number == LAST:
                break
            assert not admit_late(r, "ann", r.number, steps, LAST, 1.0)  # the next will take it
            r = opened(r.number + 1, steps)

    assert all(len(each.accepted) == size for each in closed)
    assert sum(len(each.accepted) for each in closed) + (len(r.accepted) if r not in closed else 0) == len(done)


STEPS = Steps(2, 3)


@pytest.mark.parametrize(("base", "why"), [(0, "not open"), (6, "not open"), (1, "4 steps ago; at most 3 are taken")])
def test_models_that_are_too_old_or_yet_to_come_are_refused(base: int, why: str) -> None:
    with pytest.raises(RoundClosed, match=why):
        admit_late(opened(5, STEPS), "ann", base, STEPS, LAST, 1.0)


def test_a_node_counts_once_in_each_step() -> None:
    r = counted(opened(5, STEPS), "ann")

    with pytest.raises(RoundClosed, match="called again in the next"):
        admit_late(r, "ann", 4, STEPS, LAST, 1.0)
    assert admit_late(r, "bob", 4, STEPS, LAST, 1.0)


def test_what_comes_between_two_steps_waits_for_the_next_if_there_is_one() -> None:
    full = counted(counted(opened(5, STEPS), "ann"), "bob")

    assert not admit_late(full, "cid", 4, STEPS, LAST, 1.0)
    with pytest.raises(RoundClosed, match="last step"):
        admit_late(full, "cid", 4, STEPS, 5, 1.0)


def test_a_round_whose_deadline_has_passed_takes_nothing_more() -> None:
    assert not admit_late(opened(5, STEPS), "ann", 5, STEPS, LAST, 61.0)


def test_an_invalid_round_is_the_end() -> None:
    with pytest.raises(RoundClosed, match="last step"):
        admit_late(after(opened(5, STEPS), rounds.DeadlinePassed(60.0)), "ann", 5, STEPS, LAST, 61.0)


def test_whoever_is_not_invited_or_was_rejected_is_told_so() -> None:
    r = after(
        opened(5, STEPS),
        rounds.UploadBegan("ann", 1.0),
        rounds.UploadArrived("ann"),
        rounds.UpdateRejected("ann", "a lie"),
    )

    with pytest.raises(NotInvited):
        admit_late(r, "eve", 5, STEPS, LAST, 1.0)
    with pytest.raises(UpdateRefused, match="a lie"):
        admit_late(r, "ann", 5, STEPS, LAST, 1.0)
