from __future__ import annotations

import pytest

from grid.protocol.round import NodeCommitted, UpdateAccepted, UploadArrived, UploadBegan
from grid.simulation.clock import Clock
from grid.simulation.figures import Figures
from grid.simulation.learner import Nothing
from grid.simulation.population import Population
from grid.simulation.scenario import Scenario
from grid.simulation.sitting import Ground, Sitting
from grid.wire.problems import NotInvited, OutOfTurn

THREE = Scenario(population=3, goal=2, drawn=3, quorum=1, deadline=100.0, grace=10.0, summing=5.0)


class Watched:
    """A sitting of three nodes, and when it closed and ended."""

    def __init__(self) -> None:
        self.clock, self.figures = Clock(), Figures("test")
        ground = Ground(THREE, self.clock, self.figures, Population(THREE, self.clock, self.figures), Nothing())
        self.closed, self.ended = list[float](), list[float]()
        self.sitting = Sitting(
            ground,
            1,
            frozenset("abc"),
            closed=lambda _: self.closed.append(self.clock.now),
            ended=lambda _: self.ended.append(self.clock.now),
        )

    def hand_in(self, node: str) -> None:
        for event in (
            UploadBegan(node, self.clock.now),
            UploadArrived(node),
            UpdateAccepted(node, 1.0, self.clock.now),
        ):
            self.sitting.tell(event)


def test_the_goal_closes_it_and_the_sum_takes_its_time() -> None:
    w = Watched()
    w.clock.at(20.0, w.hand_in, "a")
    w.clock.at(30.0, w.hand_in, "b")
    w.clock.play(stop=lambda: bool(w.ended))

    assert (w.closed, w.ended, w.sitting.valid) == ([30.0], [35.0], True)
    assert w.figures.counted_at_close == [2]
    assert w.figures.round_seconds == [35.0]


def test_an_upload_under_way_at_the_deadline_has_the_grace_and_no_more() -> None:
    w = Watched()
    w.clock.at(20.0, w.hand_in, "a")
    w.clock.at(99.0, w.sitting.tell, UploadBegan("b", 99.0))
    w.clock.play()

    assert (w.closed, w.ended) == ([100.0], [115.0])
    with pytest.raises(OutOfTurn):
        w.sitting.tell(UploadArrived("b"))


def test_where_nobody_comes_it_is_invalid_at_its_deadline() -> None:
    w = Watched()
    w.clock.play()

    assert (w.closed, w.ended, w.sitting.valid) == ([100.0], [100.0], False)


def test_who_is_refused_is_told_so_and_nothing_changes() -> None:
    w = Watched()
    before = w.sitting.round

    with pytest.raises(NotInvited):
        w.sitting.tell(NodeCommitted("mallory"))
    assert w.sitting.round is before
    assert w.sitting.open
