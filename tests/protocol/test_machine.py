from __future__ import annotations

import os
import re
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import pytest

from grid.protocol import assignment, association, fleet, membership, project, request, run, secure_sum, summing, task
from grid.protocol import round as round_
from grid.protocol.assignment import ASSIGNMENT
from grid.protocol.association import ASSOCIATION
from grid.protocol.fleet import FLEET, TURN
from grid.protocol.machine import BrokenRule, Machine, diagram
from grid.protocol.membership import MEMBERSHIP
from grid.protocol.neighbours import Circle
from grid.protocol.project import BATCH
from grid.protocol.request import REQUEST
from grid.protocol.round import ROUND
from grid.protocol.run import RUN
from grid.protocol.secure_sum import PART
from grid.protocol.summing import SUM
from grid.protocol.task import TASK
from grid.wire.problems import GridError, OutOfTurn
from grid.wire.requests import Ask

MACHINES: list[Machine[Any, Any]] = [
    TASK, BATCH, RUN, ROUND, ASSIGNMENT, PART, SUM, MEMBERSHIP, REQUEST, ASSOCIATION, FLEET, TURN,
]  # fmt: skip
FOUR = frozenset({"ann", "bob", "dan", "eve"})
PAGE = Path(__file__).parents[2] / "docs" / "machines.md"


class Light(StrEnum):
    RED = "red"
    GREEN = "green"
    BROKEN = "broken"


class Lamp(msgspec.Struct, frozen=True):
    state: Light = Light.RED


class SwitchedOver(msgspec.Struct, frozen=True):
    to: Light


def switch(lamp: Lamp, event: SwitchedOver) -> tuple[Lamp, tuple[str, ...]]:
    return Lamp(event.to), (f"now {event.to}",)


LAMP: Machine[Lamp, str] = Machine(
    "lamp", Light.RED, {(Light.RED, SwitchedOver): (switch, frozenset({Light.RED, Light.GREEN}))}
)


def test_an_event_moves_the_record_and_says_what_is_to_be_done() -> None:
    before = Lamp()

    after, effects = LAMP.advance(before, SwitchedOver(Light.GREEN))

    assert (before.state, after.state, effects) == (Light.RED, Light.GREEN, ("now green",))


def test_an_event_without_a_row_is_out_of_turn_and_the_message_says_so() -> None:
    with pytest.raises(OutOfTurn, match="switched over cannot happen to a lamp that is green"):
        LAMP.advance(Lamp(Light.GREEN), SwitchedOver(Light.RED))


def test_a_rule_may_not_end_where_its_row_does_not_say() -> None:
    with pytest.raises(BrokenRule, match="from red to broken by SwitchedOver"):
        LAMP.advance(Lamp(), SwitchedOver(Light.BROKEN))


def test_the_picture_is_drawn_from_the_table() -> None:
    assert diagram(LAMP).splitlines() == [
        "stateDiagram-v2",
        "    [*] --> red",
        "    red --> red : SwitchedOver",
        "    red --> green : SwitchedOver",
        "    green --> [*]",
        "    broken --> [*]",
    ]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_state_can_be_reached_and_those_without_a_way_out_are_final(machine: Machine[Any, Any]) -> None:
    reached, edge = {machine.start}, {machine.start}
    while edge:
        edge = {e for (s, _), (_, ends) in machine.transitions.items() if s in edge for e in ends} - reached
        reached |= edge

    assert reached == set(type(machine.start))
    assert any(machine.final(state) for state in reached)


def redrawn(page: str) -> str:
    """The page with every machine's block drawn anew."""
    for machine in MACHINES:
        block = f"\n## {machine.name}\n\n```mermaid\n{diagram(machine)}\n```\n"
        page, count = re.subn(
            rf"\n## {machine.name}\n\n```mermaid\n.*?```\n", lambda _, b=block: b, page, flags=re.DOTALL
        )
        assert count == 1, f"docs/machines.md has no picture of a {machine.name}"
    return page


def test_the_pictures_in_the_docs_are_those_of_the_tables() -> None:
    """`GRID_REDRAW=1` redraws them instead."""
    page = PAGE.read_text()
    if os.environ.get("GRID_REDRAW"):
        PAGE.write_text(redrawn(page))
    else:
        assert page == redrawn(page), "run this test with GRID_REDRAW=1 and read what changed"


# --- no arrow in a picture that cannot happen -----------------------------------------------------


def round_events(r: round_.Round) -> list[object]:
    events: list[object] = [round_.SumReady(), round_.SumFailed(""), round_.Stopped(), round_.Resumed()]
    events += [round_.DeadlinePassed(at) for at in (0.0, 10.0, 20.0)]
    for node in r.invited:
        events += [round_.NodeCommitted(node), round_.UploadBegan(node, 1.0), round_.UploadBroken(node)]
        events += [round_.UploadArrived(node)]
        events += [round_.UpdateAccepted(node, 1.0, 1.0), round_.UpdateRejected(node, "")]
        events += [round_.NodeFailed(node, ""), round_.SpareDrawn(node)]
    return events


def member_events(m: membership.Member) -> list[object]:
    events: list[object] = [membership.Left(), membership.Silent(0.0), membership.Joined(0.0, 90.0)]
    events += [membership.Renewed(0.0, 90.0, busy) for busy in (True, False)]
    events += [membership.Answered(0.0, 0.1, busy) for busy in (True, False)]
    events += [timer(now) for timer in (membership.LeaseEnded, membership.GraceEnded) for now in (0.0, 1e9)]
    return events


def assignment_events(_: assignment.Assignment) -> list[object]:
    happened = [assignment.Committed, assignment.Fetched, assignment.TrainingStarted, assignment.Uploaded]
    ended = [assignment.Rejected, assignment.Failed, assignment.Expired]
    return [*(event() for event in happened), assignment.Accepted(), *(event("") for event in ended)]


def batch_events(b: project.Batch) -> list[object]:
    ended = [project.TaskFinished(b.run, b.run), project.TaskFailed(b.run, ""), project.RunStopped(b.run, "")]
    return [project.BatchStarted("r"), project.BatchRestarted("r"), project.StopAsked(), *ended]


def run_events(r: run.Run) -> list[object]:
    events: list[object] = [run.Started(), run.Prepared(), run.PreparationFailed(""), run.Stopped()]
    for number in range(r.rounds + 1):
        events += [run.RoundCollected(number), run.RoundCompleted(number), run.RoundInvalid(number, "")]
        events += [run.LearnedEnough(number, "")]
    return events


def a_round(target: int) -> round_.Round:
    return round_.open_round(1, round_.Policy(2, target, 10.0, 10.0), frozenset({"alice", "bob", "carol"}), 0.0)


def task_events(_: task.Task) -> list[object]:
    events: list[object] = [task.Opened(10.0, 0.0), task.Closed(), task.DeadlinePassed(5.0), task.DeadlinePassed(10.0)]
    events += [task.AggregationAsked(), task.Aggregated(), task.AggregationFailed("")]
    return [
        *events,
        task.EvaluationAsked(),
        task.Evaluated(),
        task.EvaluationFailed(""),
        task.Archived(),
        task.Resumed(),
    ]


def part_events(_: secure_sum.Part) -> list[object]:
    all_, two = frozenset({"ann", "bob", "eve"}), frozenset({"ann", "bob"})
    named = [secure_sum.SurvivorsNamed(nodes, nodes) for nodes in (all_, two)]
    return [secure_sum.SharesCame(all_), secure_sum.VectorSent(), secure_sum.Broken(""), *named]


def sum_events(_: summing.Sum) -> list[object]:
    answers = [summing.Answered(node) for node in FOUR]
    return [*answers, summing.Gone("dan"), summing.TimeOver(), *map(summing.Collected, (FOUR, frozenset({"ann"})))]


def association_events(_: association.Association) -> list[object]:
    asked = [association.Proposed(ours=ours, at=0.0) for ours in (True, False)]
    over = [association.TimeOver(at) for at in (1.0, 99.0)]
    return [*asked, association.Accepted(1.0), association.Refused("", 1.0), association.Ended("", 1.0), *over]


def fleet_events(_: fleet.Fleet) -> list[object]:
    return [fleet.Started(), fleet.Halted(), fleet.RoundCounted()]


def turn_events(_: fleet.Turn) -> list[object]:
    return [fleet.Mustered(), fleet.Enough(), fleet.TooFew(""), fleet.Summed()]


def request_events(_: request.Request) -> list[object]:
    decided = [request.Accepted("cora", "", 1.0, 9.0), request.Denied("cora", "", 1.0), request.OverBudget("", 1.0)]
    return [*decided, request.Withdrawn(1.0), request.Used(1.0), request.TimeOver(1.0), request.TimeOver(99.0)]


THREE = ("ann", "bob", "eve")

WALKS: list[tuple[Machine[Any, Any], list[Any], Callable[[Any], list[object]]]] = [
    (TASK, [task.Task("t")], task_events),
    (BATCH, [project.Batch("p", 1, tasks=2)], batch_events),
    (RUN, [run.Run("r", rounds=2)], run_events),
    (ROUND, [a_round(target=2), a_round(target=3)], round_events),
    (ASSIGNMENT, [assignment.Assignment("r", 1, "alice")], assignment_events),
    (PART, [secure_sum.took_part("ann", THREE, 2, secure_sum.Terms(2), Circle(THREE, 2, b""))], part_events),
    (SUM, [summing.Sum(FOUR), summing.Sum(frozenset({"ann", "dan"}))], sum_events),
    (ASSOCIATION, [association.Association("a", "k", "n", "node", "x", 9.0, association.ASKED)], association_events),
    (FLEET, [fleet.Fleet(rounds=2)], fleet_events),
    (TURN, [fleet.Turn(0)], turn_events),
    (REQUEST, [request.Request(1, "sue", Ask("download", "scans", "why", tensor="age"), 0.0, 9.0)], request_events),
    (MEMBERSHIP, [membership.joined("n", 0.0, 90.0, verified=v) for v in (True, False)], member_events),
]


@pytest.mark.parametrize(("machine", "starts", "events"), WALKS, ids=[walk[0].name for walk in WALKS])
def test_every_arrow_of_a_picture_can_happen(
    machine: Machine[Any, Any], starts: list[Any], events: Callable[[Any], list[object]]
) -> None:
    happened, seen, edge = set(), set(), list(starts)
    while edge:
        record = edge.pop()
        for event in events(record):
            try:
                after, _ = machine.advance(record, event)
            except GridError:
                continue
            happened.add((record.state, type(event), after.state))
            if repr(after) not in seen:
                seen.add(repr(after))
                edge.append(after)

    assert happened == {(a, event, b) for (a, event), (_, ends) in machine.transitions.items() for b in ends}
