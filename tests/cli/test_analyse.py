"""Questions in commands: what is asked, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from grid.cli import analyse as command
from grid.learning.plan import Plan
from grid.learning.questions import (
    CoxRegression,
    Evaluate,
    Histogram,
    KaplanMeier,
    LinearRegression,
    LogisticRegression,
    Moments,
    Question,
)
from grid.learning.study import Study
from tests.learning.test_study import answered

TIMES = ["--time", "time", "--event", "event", "--horizon", "60"]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Question, dict[str, Any]]]:
    """Commands reach a grid that knows the answer; what they asked, and how."""
    heard: list[tuple[Question, dict[str, Any]]] = []

    class Grid:
        """As much of a grid as a command needs."""

        skipped = ("shy",)

        async def __aenter__(self) -> Grid:
            return self

        async def __aexit__(self, *_: object) -> None:
            return None

        async def analyse(self, question: Question, tags: tuple[str, ...], **how: Any) -> Grid:
            heard.append((question, {"tags": tags, **how}))
            self.plan = answered(question)
            return self

        async def evaluate(self, plan: Plan, tags: tuple[str, ...], **how: Any) -> Grid:
            self.plan = Study.of(plan, how["holdout"], how["seed"])
            heard.append((self.plan.question, {"tags": tags, **how}))
            return self

        @property
        def task(self) -> Study:
            return self.plan

        async def result(self, progress: object) -> Grid:
            return self

    monkeypatch.setattr(command, "aconnect", lambda gateway, **how: Grid())
    return heard


@pytest.mark.parametrize(
    ("words", "question"),
    [
        (["moments", "--column", "age", "--column", "dose"], Moments(("age", "dose"))),
        (["histogram", "--column", "age", "--edge", "40", "--edge", "60"], Histogram("age", (40.0, 60.0))),
        (["linear", "--column", "age", "--target", "pressure"], LinearRegression(("age",), "pressure")),
        (["logistic", "--column", "age", "--target", "cured"], LogisticRegression(("age",), "cured")),
        (["kaplan-meier", *TIMES], KaplanMeier("time", "event", 60)),
        (["cox", "--column", "age", *TIMES], CoxRegression(("age",), "time", "event", 60)),
    ],
)
def test_each_question_is_a_command(
    asked: list[tuple[Question, dict[str, Any]]], words: list[str], question: Question, tmp_path: Path
) -> None:
    out = tmp_path / "answer.safetensors"
    told = CliRunner().invoke(command.analyse, [*words, "--data", "#trial", "--json", "--out", str(out)])

    assert told.exit_code == 0, told.output
    assert asked[0][0] == question
    assert asked[0][1] == {"tags": ("#trial",), "secure": None, "quorum": "all", "deadline": 600.0, "coordinator": None}
    assert json.loads(told.stdout) == Study.from_bundle(out.read_bytes()).answer == answered(question).answer
    assert "shy: left out" in told.stderr


def test_an_answer_is_a_table(asked: list[tuple[Question, dict[str, Any]]]) -> None:
    words = ["moments", "--column", "age", "--data", "#trial", "--no-secure", "--quorum", "2"]

    told = CliRunner().invoke(command.analyse, words)

    assert told.stdout.splitlines()[0] == "column  mean     variance  deviation"
    assert (asked[0][1]["secure"], asked[0][1]["quorum"]) == (False, 2)


def test_how_a_plan_does_is_a_command(asked: list[tuple[Question, dict[str, Any]]], tmp_path: Path) -> None:
    plan = Plan.mlp([3, 2], metrics=["accuracy"]).save(tmp_path / "plan")

    told = CliRunner().invoke(command.evaluate, [str(plan), "--data", "#trial", "--holdout", "0.2", "--seed", "3"])

    assert told.exit_code == 0, told.output
    assert [line.split()[0] for line in told.stdout.splitlines()] == ["metric", "loss", "accuracy"]
    assert asked[0][0] == Evaluate(("accuracy",), 0.2, 3)
    assert asked[0][1]["target"] == "target"
