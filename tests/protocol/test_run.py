from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grid.protocol.run import (
    AGGREGATING,
    FAILED,
    RUN,
    RUNNING,
    STOPPED,
    SUCCESS,
    Finish,
    LearnedEnough,
    OpenRound,
    PreparationFailed,
    Prepare,
    Prepared,
    RoundCollected,
    RoundCompleted,
    RoundInvalid,
    Run,
    Started,
    Stopped,
    advance,
)
from grid.wire.problems import GridError, OutOfTurn

TWO_ROUNDS = Run("r", rounds=2)


def play(r: Run, *events: object) -> tuple[Run, list[Any]]:
    """The run after these events, and all their effects."""
    effects: list[Any] = []
    for event in events:
        r, more = advance(r, event)
        effects += more
    return r, effects


def test_a_run_plays_its_rounds_and_succeeds() -> None:
    rounds = [RoundCollected(1), RoundCompleted(1), RoundCollected(2), RoundCompleted(2)]

    r, effects = play(TWO_ROUNDS, Started(), Prepared(), *rounds)

    assert (r.state, r.current) == (SUCCESS, 2)
    assert effects == [Prepare(), OpenRound(1), OpenRound(2), Finish(SUCCESS)]


def test_a_run_that_has_learned_enough_is_a_success_before_its_last_round() -> None:
    r, effects = play(TWO_ROUNDS, Started(), Prepared(), RoundCollected(1), LearnedEnough(1, "no better"))

    assert (r.state, r.current, r.reason, effects[-1]) == (SUCCESS, 1, "no better", Finish(SUCCESS))


@pytest.mark.parametrize("before", [[], [RoundCollected(1)]], ids=["collecting", "aggregating"])
def test_a_round_that_comes_to_nothing_fails_the_run(before: list[object]) -> None:
    r, effects = play(TWO_ROUNDS, Started(), Prepared(), *before, RoundInvalid(1, "below quorum"))

    assert (r.state, r.reason, effects[-1]) == (FAILED, "below quorum", Finish(FAILED))


def test_a_run_that_cannot_be_prepared_fails_with_the_reason() -> None:
    r, _ = play(TWO_ROUNDS, Started(), PreparationFailed("nobody takes part"))

    assert (r.state, r.reason) == (FAILED, "nobody takes part")


@pytest.mark.parametrize("before", [[], [Started()], [Started(), Prepared()]])
def test_a_run_can_be_stopped_until_it_is_over(before: list[object]) -> None:
    r, effects = play(TWO_ROUNDS, *before, Stopped("enough"))

    assert (r.state, effects[-1]) == (STOPPED, Finish(STOPPED))
    with pytest.raises(OutOfTurn):
        advance(r, Stopped())


def test_news_of_another_round_is_out_of_turn() -> None:
    r, _ = play(TWO_ROUNDS, Started(), Prepared())

    with pytest.raises(OutOfTurn, match="in round 1, not 2"):
        advance(r, RoundCollected(2))


numbers = st.integers(0, 3)
events = st.one_of(
    st.sampled_from([Started(), Prepared(), PreparationFailed("no"), Stopped()]),
    st.builds(RoundCollected, numbers),
    st.builds(RoundCompleted, numbers),
    st.builds(LearnedEnough, numbers, st.just("enough")),
    st.builds(RoundInvalid, numbers, st.just("no")),
)


@given(st.integers(1, 3), st.lists(events, max_size=30))
def test_rounds_come_one_after_the_other_and_a_run_ends_once(rounds: int, story: list[object]) -> None:
    r, opened, finished = Run("r", rounds), [], []
    for event in story:
        try:
            r, effects = advance(r, event)
        except GridError:
            continue
        opened += [e.number for e in effects if isinstance(e, OpenRound)]
        finished += [e.state for e in effects if isinstance(e, Finish)]
        assert (r.state in {RUNNING, AGGREGATING}) <= (opened[-1:] == [r.current])

    assert opened == list(range(1, len(opened) + 1))
    assert len(opened) <= rounds
    assert finished == ([r.state] if RUN.final(r.state) else [])
    assert r.state != SUCCESS or r.reason == "enough" or r.current == rounds
