from __future__ import annotations

from typing import Any

import pytest

from grid.cli.show import Show
from grid.client.run import History
from grid.wire.runs import Event


class Run:
    """A run that is told to `show`, event by event."""

    def __init__(self, show: Show) -> None:
        self._show, self._history = show, History()

    def tell(self, kind: str, **data: Any) -> None:
        event = Event(0, kind, 0.0, data)
        self._history.hear(event)
        self._show.heard(event, self._history)

    def close(self, number: int, **failed: str) -> None:
        closed = {"accepted": 3, "examples": 1078, "seconds": 0.25, "bytes": {"up": 1000, "down": 2000}}
        self.tell("round-closed", round=number, rejected={}, failed=failed, **closed)

    def evaluate(self, number: int) -> None:
        self.tell("evaluated", round=number, metrics={"accuracy": 0.5, "loss": 1.0})


def test_a_round_is_one_line_once_it_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(Show(began=0.0, err=False, now=lambda: 4.0))

    run.close(1)
    assert capsys.readouterr().out == ""
    run.evaluate(1)
    run.close(2, bob="it stopped listening")
    run.evaluate(2)

    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("round  accuracy")
    assert lines[2] == "    1    0.5000  1.0000      3      1078     3.0 kB     0.250"
    assert lines[3].endswith("0.250   without bob")


def test_a_round_that_nobody_measured_is_shown_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(Show(began=0.0, err=False, now=lambda: 4.0))

    run.close(1)
    run.tell("run-ended", state="success", reason="")

    assert "–       –" in capsys.readouterr().out


def test_the_first_finished_round_is_timed() -> None:
    seconds = iter([7.5, 9.0])
    show = Show(began=2.0, err=False, now=lambda: next(seconds))
    run = Run(show)

    run.close(1)
    run.close(2)

    assert show.first_round == 5.5


def test_a_round_that_nobody_measured_is_told_with_the_next_and_none_twice(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(Show(began=0.0, err=False, now=lambda: 1.0))
    for number in (1, 2, 3):
        run.close(number)
        if number != 2:
            run.tell("evaluated", round=number, metrics={"accuracy": 0.5, "loss": 1.0}, examples=1, nodes=1)
    run.tell("run-ended", state="success", reason="")

    told = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert told == ["round", "1", "2", "3"]


def test_all_goes_to_standard_error_where_a_program_reads(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(Show(began=0.0, err=True, now=lambda: 1.0))

    run.tell("participant", node="alice", state="ready", examples=300, reason="")

    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == "  1.0 s  alice    has loaded the plan, 300 examples to train on\n"
