"""`grid analyse` and `grid evaluate`: what is said of the rows of all nodes, as if they lay in one place."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import click

from grid.cli.config import SETTINGS
from grid.cli.connect import aconnect
from grid.cli.plainly import Plainly, word
from grid.cli.train import gateway_option, quorum_word
from grid.client.display import Progress
from grid.client.run import AsyncRun
from grid.client.tables import table
from grid.learning.plan import Plan
from grid.learning.questions import (
    CoxRegression,
    Histogram,
    KaplanMeier,
    LinearRegression,
    LogisticRegression,
    Moments,
    Question,
)
from grid.learning.study import Study
from grid.wire.names import Address

_file = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=Plainly)
def analyse() -> None:
    """Ask a question of all rows that have a tag. Only sums leave a node; of three nodes and more, only the sum of all.

    A column is named as in the data; where it holds words, `column=word` is 1 for the rows with that word, else 0.
    """


def _asking(command: Any) -> Any:
    """The flags that all questions have."""
    for option in (
        gateway_option,
        click.option("--json", "as_json", is_flag=True, help="Print the answer as JSON, in full precision."),
        click.option("-o", "--out", type=_file, help="Also write question and answer to this file (safetensors)."),
        click.option("--address", type=word(Address, "url (http://HOST:PORT)"), help="How nodes reach it, if not so."),
        click.option("--host", default="127.0.0.1", help="Where a coordinator in this process listens."),
        click.option("--coordinator", type=word(Address, "url (http://HOST:PORT)"), help="A node to do it; else here."),
        click.option("--deadline", type=click.FloatRange(min=1), default=600.0, help="Seconds for a round at most."),
        click.option("--quorum", type=quorum_word, metavar="NODES|all", default="all", help="The fewest that count."),
        click.option("--secure/--no-secure", default=None, help="See only the sum of all.  [default: of 3 nodes on]"),
        click.option("--data", "tags", multiple=True, required=True, metavar="TAG", help="The data to ask; repeats."),
    ):
        command = option(command)
    return command


_columns = click.option("--column", "columns", multiple=True, required=True, help="A column to look at; repeats.")
_target = click.option("--target", required=True, help="The column that depends on the others.")
_horizon = click.option("--horizon", type=click.IntRange(1), required=True, help="The last time that is looked at.")


def _times(command: Any) -> Any:
    for option in (
        click.option("--event", required=True, help="The column that is 1 where it happened, else 0."),
        click.option("--time", required=True, help="The column of times: whole numbers from 0 to the horizon."),
    ):
        command = option(command)
    return command


@analyse.command(context_settings=SETTINGS)
@_columns
@_asking
def moments(columns: tuple[str, ...], **how: Any) -> None:
    """Mean and variance of columns."""
    _answer(Moments(columns), **how)


@analyse.command(context_settings=SETTINGS)
@click.option("--column", required=True, help="The column to look at.")
@click.option("--edge", "edges", type=float, multiple=True, required=True, help="An edge of a bin; repeats.")
@_asking
def histogram(column: str, edges: tuple[float, ...], **how: Any) -> None:
    """How many values of a column lie between each two edges."""
    _answer(Histogram(column, edges), **how)


@analyse.command(context_settings=SETTINGS)
@_columns
@_target
@_asking
def linear(columns: tuple[str, ...], target: str, **how: Any) -> None:
    """Least squares of a target on columns, with an intercept."""
    _answer(LinearRegression(columns, target), **how)


@analyse.command(context_settings=SETTINGS)
@_columns
@_target
@_asking
def logistic(columns: tuple[str, ...], target: str, **how: Any) -> None:
    """Logistic regression of a target that is 0 or 1 on columns, with an intercept."""
    _answer(LogisticRegression(columns, target), **how)


@analyse.command(name="kaplan-meier", context_settings=SETTINGS)
@_times
@_horizon
@_asking
def kaplan_meier(time: str, event: str, horizon: int, **how: Any) -> None:
    """The share that survives each time."""
    _answer(KaplanMeier(time, event, horizon), **how)


@analyse.command(context_settings=SETTINGS)
@_columns
@_times
@_horizon
@_asking
def cox(columns: tuple[str, ...], time: str, event: str, horizon: int, **how: Any) -> None:
    """Proportional hazards on columns."""
    _answer(CoxRegression(columns, time, event, horizon), **how)


@click.command(context_settings=SETTINGS)
@click.argument("file", type=_file, metavar="PLAN")
@click.option("--holdout", type=click.FloatRange(0, 0.9), default=0.0, help="Only what a training held out; 0: all.")
@click.option("--seed", type=click.IntRange(0), default=0, help="The seed of that training.")
@click.option("--target", default="target", help="The tensor that is to be foretold.")
@_asking
def evaluate(file: Path, holdout: float, seed: int, target: str, **how: Any) -> None:
    """How a PLAN does, as it is, on all examples that have a tag: its loss and metrics, as if they lay in one place."""
    plan = Plan.load(file)
    _run(lambda grid, tags, **asks: grid.evaluate(plan, tags, holdout=holdout, seed=seed, target=target, **asks), **how)


def _answer(question: Question, **how: Any) -> None:
    _run(lambda grid, tags, **asks: grid.analyse(question, tags, **asks), **how)


def _run(
    ask: Callable[..., Awaitable[AsyncRun[Study]]],
    *,
    tags: tuple[str, ...],
    gateway: str,
    host: str,
    address: str | None,
    out: Path | None,
    as_json: bool,
    **how: Any,
) -> None:
    async def answered() -> Study:
        async with aconnect(gateway, host=host, address=address) as grid:
            run = await ask(grid, tags, **how)
            for node in run.skipped:
                click.echo(f"{node}: left out, it never proved who it is", err=True)
            return (await run.result(Progress(run.task.rounds, sys.stderr))).plan

    study = asyncio.run(answered())
    if out is not None:
        study.save(out)
    click.echo(json.dumps(study.answer) if as_json else table(*study.table()))
