"""The clip of a noised run: it follows what nodes learn, and both sides know what follows."""

from __future__ import annotations

import math
from typing import Any

import pytest

from grid.learning.strategy import PRESETS, Masked, noised
from grid.node.clipping import Clipping
from grid.privacy.accounting import epsilon_of
from grid.wire.problems import SumRefused
from grid.wire.runs import Event


def rule(quantile: float = 0.5) -> Masked:
    upload = noised(PRESETS["fedavg"], 1.0, 2.0, 9, quantile).upload
    assert isinstance(upload, Masked)
    return upload


def opened(number: int, **told: Any) -> Event:
    return Event(number, "round-opened", 0.0, {"round": number, **told})


def test_a_clip_goes_down_while_more_than_the_quantile_are_within_and_up_while_fewer_are() -> None:
    clipping = Clipping(rule())

    clipping.closed(1, 1.0)
    assert clipping.clip == pytest.approx(math.exp(-0.1))
    clipping.closed(2, 0.0)
    assert clipping.clip == pytest.approx(1.0)
    clipping.closed(2, 0.0)  # said twice
    assert clipping.clip == pytest.approx(1.0)
    clipping.closed(3, -50.0)  # mostly noise
    assert clipping.clip == pytest.approx(2.0)


def test_bound_and_clip_keep_their_proportion() -> None:
    clipping = Clipping(rule())
    clipping.closed(1, -50.0)

    assert clipping.rule.bound / clipping.rule.clip == rule().bound / rule().clip
    assert clipping.rule.reach <= clipping.rule.bound


def test_a_participant_comes_to_the_same_clips_as_its_coordinator() -> None:
    here, there = Clipping(rule()), Clipping(rule())

    for number, inside in enumerate([0.9, 0.2, 0.4], start=1):
        there.opened(opened(number, **here.told()))
        there.opened(opened(number, **here.told()))  # a round that is held anew
        there.check()
        assert there.rule == here.rule
        here.closed(number, inside)
    late = Clipping(rule())
    late.recall([{"round": number, "privacy": here.cost(number, share)} for number, share in [(1, 0.9), (2, 0.2)]])
    assert late.told() == there.told()


@pytest.mark.parametrize(
    "event",
    [
        opened(1, clip=2.0),
        opened(1),
        opened(2, clip=math.exp(-0.1)),
        opened(2, clip=1.0, inside=1.0),
        opened(3, clip=1.0, inside=0.5),
    ],
)
def test_a_clip_that_does_not_follow_is_refused(event: Event) -> None:
    clipping = Clipping(rule())
    clipping.opened(event)

    with pytest.raises(SumRefused, match="does not follow"):
        clipping.check()


def test_a_fixed_clip_needs_no_word() -> None:
    clipping = Clipping(rule(quantile=0.0))
    clipping.opened(opened(7))
    clipping.check()
    clipping.closed(7, 0.3)

    assert (clipping.clip, clipping.told(), clipping.rule) == (0.0, {}, rule(quantile=0.0))
    assert clipping.cost(2, 0.3) == {"epsilon": epsilon_of(1e-5, 2.0, 2), "delta": 1e-5}


def test_telling_who_was_within_costs_nothing_on_top() -> None:
    adaptive = rule()

    learned, share = adaptive.learned_noise, 2 * adaptive.share_noise  # a node moves the share by one half
    assert 1 / learned**2 + 1 / share**2 == pytest.approx(1 / adaptive.noise**2)
    assert Clipping(adaptive).cost(3, 0.5) == {
        "epsilon": epsilon_of(1e-5, 2.0, 3),
        "delta": 1e-5,
        "clip": 1.0,
        "inside": 0.5,
    }
