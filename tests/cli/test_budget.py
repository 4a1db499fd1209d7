"""An owner's budgets at the command line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from grid.cli import budget as command
from grid.wire import budgets as wire
from grid.wire.directory import Done


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the node is told."""
    heard: list[Any] = []

    class Office:
        """As much of a running node as a command needs."""

        async def ask(self, endpoint: Any, message: Any = None) -> Any:
            heard.append((endpoint, message))
            told = wire.BudgetInfo("trial", "", 3.0, 1e-5, 1.25, 1.75, 2, 1)
            return wire.Budgets((told,)) if endpoint is wire.BUDGETS else Done("it is done")

    @asynccontextmanager
    async def office(data: Path) -> AsyncIterator[Office]:
        yield Office()

    monkeypatch.setattr(command, "open_office", office)
    return heard


def run(*words: str) -> Result:
    result = CliRunner().invoke(command.budget, [*words, "--data", "."])
    assert result.exit_code == 0, result.output
    return result


def test_budgets_are_set_and_dropped_and_groups_made(said: list[Any]) -> None:
    run("set", "trial", "3", "--delta", "1e-6")
    run("set", "trial", "1", "--of", "students")
    run("drop", "trial", "--of", "students")

    assert said == [
        (wire.SET_BUDGET, wire.SetBudget("trial", 3.0, 1e-6)),
        (wire.SET_BUDGET, wire.SetBudget("trial", 1.0, 1e-5, "students")),
        (wire.DROP_BUDGET, wire.DropBudget("trial", "students")),
    ]


def test_budgets_are_listed_with_what_is_left(said: list[Any]) -> None:
    assert run("list").stdout.splitlines() == [
        "dataset  whose        epsilon  spent  left  runs",
        "trial    all who ask  3        1.25   1.75  2",
    ]
