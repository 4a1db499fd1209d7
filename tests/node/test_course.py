"""The machines of a run, and who is woken by them."""

from __future__ import annotations

import asyncio

import pytest

from grid.node.course import Course
from grid.protocol import round as rounds
from grid.protocol import run as runs
from grid.wire.problems import RunRefused


def a_course(now: float = 0.0) -> Course:
    course = Course(runs.Run("r", rounds=1), lambda: now)
    course.round = rounds.open_round(1, rounds.Policy(1, 2, 10.0), frozenset({"ann", "bob"}), 0.0)
    return course


async def test_a_change_wakes_the_one_who_waits() -> None:
    course = a_course()
    waiting = asyncio.create_task(course.pulse.until(lambda: course.state == rounds.COLLECTING))
    await asyncio.sleep(0)

    course.apply(rounds.NodeCommitted("ann"))

    await waiting
    course.pulse.close()


async def test_the_deadline_closes_the_round_by_itself() -> None:
    course = a_course(now=10.0)
    course.wake_at(10.0)

    await course.pulse.until(lambda: course.state == rounds.INVALID)


async def test_a_node_that_fails_where_nobody_waits_for_it_changes_nothing() -> None:
    course = a_course()
    before = course.round

    course.fail("eve", "who?")

    assert course.round is before
    course.fail("ann", "away")
    assert course.the_round.failed == {"ann": "away"}


async def test_what_became_of_nodes_is_owed_in_order_and_taken_once() -> None:
    course = a_course()
    course.losing = lambda event: course.apply(rounds.SpareDrawn("eve"))

    course.fail("ann", "away")
    course.apply(rounds.NodeCommitted("ann"))
    course.apply(rounds.NodeCommitted("bob"))  # of whom nothing else was said

    assert course.take_owed() == [
        rounds.SpareDrawn("eve"),
        rounds.NodeFailed("ann", "away"),
        rounds.NodeCommitted("ann"),
    ]
    assert course.take_owed() == []


async def test_no_spare_is_called_into_a_round_that_takes_no_more_updates() -> None:
    course = a_course()
    course.apply(rounds.SpareDrawn("eve"))
    course.fail("ann", "away")
    course.apply(rounds.Stopped())

    assert course.take_owed() == [rounds.NodeFailed("ann", "away")]


def test_before_the_first_round_there_is_none() -> None:
    with pytest.raises(RunRefused):
        _ = Course(runs.Run("r", rounds=1), lambda: 0.0).the_round
