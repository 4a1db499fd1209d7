"""`grid-node budget`: how much of the privacy of a dataset's records may be spent, by whom, and what is left."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from grid.cli.desk import data_option, open_office
from grid.cli.plainly import Plainly
from grid.client.tables import table
from grid.wire import budgets as wire
from grid.wire.endpoint import Endpoint


@click.group(cls=Plainly)
def budget() -> None:
    """Privacy budgets of this node's datasets. A dataset that has one is learned from under noise alone."""


_subject = click.option(
    "--of", "subject", default="", help="An account or a group; all who ask together, if not given."
)


@budget.command(name="set")
@click.argument("dataset")
@click.argument("epsilon", type=click.FloatRange(0, min_open=True))
@click.option("--delta", type=click.FloatRange(0, 1, min_open=True, max_open=True), default=1e-5, show_default=True)
@_subject
@data_option
def set_budget(dataset: str, epsilon: float, delta: float, subject: str, data: Path) -> None:
    """Let runs on DATASET cost EPSILON together, in place of what was set before. What was spent before counts."""
    _say(data, wire.SET_BUDGET, wire.SetBudget(dataset, epsilon, delta, subject))


@budget.command()
@click.argument("dataset")
@_subject
@data_option
def drop(dataset: str, subject: str, data: Path) -> None:
    """Ask for no budget on DATASET any more. What was spent stays in the ledger."""
    _say(data, wire.DROP_BUDGET, wire.DropBudget(dataset, subject))


@budget.command(name="list")
@data_option
def list_budgets(data: Path) -> None:
    """List all budgets, with what was spent or is reserved, and what is left."""

    async def told() -> tuple[wire.BudgetInfo, ...]:
        async with open_office(data) as office:
            return (await office.ask(wire.BUDGETS)).budgets

    rows = [
        (b.dataset, b.subject or "all who ask", f"{b.epsilon:g}", f"{b.spent:.3g}", f"{b.left:.3g}", str(b.runs))
        for b in asyncio.run(told())
    ]
    click.echo(table(("dataset", "whose", "epsilon", "spent", "left", "runs"), rows))


def _say(data: Path, endpoint: Endpoint[Any, Any], message: Any) -> None:
    async def said() -> Any:
        async with open_office(data) as office:
            return await office.ask(endpoint, message)

    click.echo(asyncio.run(said()).message)
