"""`grid runs`: what became of your runs, their curves, and what they learned."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from grid.cli.config import SETTINGS
from grid.cli.connect import aconnect
from grid.cli.history import page
from grid.cli.plainly import Plainly, word
from grid.cli.tensorboard import export
from grid.client.display import Rounds, Runs
from grid.client.grid import Grid
from grid.client.run import AsyncRun
from grid.client.tables import plain
from grid.learning.plan import Plan
from grid.learning.study import Study
from grid.wire.names import Address
from grid.wire.runs import RunId, RunInfo

T = TypeVar("T")

_file = click.Path(dir_okay=False, path_type=Path)
_run = click.argument("run", type=word(RunId, "id of a run"))
coordinator_option = click.option(
    "--coordinator",
    type=word(Address, "url (http://HOST:PORT)"),
    default="http://127.0.0.1:5001",
    help="The node that drives the runs.",
)


@click.group(cls=Plainly)
def runs() -> None:
    """Your runs at a coordinator: list them, look at one, stop it, fetch what it learned."""


@runs.command(name="list", context_settings=SETTINGS)
@coordinator_option
def list_runs(coordinator: str) -> None:
    """List your runs, newest first."""
    found = Runs(_ask(coordinator, lambda grid: grid.runs(coordinator)))
    click.echo(repr(found), err=not found)


@runs.command(context_settings=SETTINGS)
@_run
@coordinator_option
@click.option("--report", type=_file, help="Write a page with curves and tables to this file.")
@click.option(
    "--tensorboard",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the curves as event files, for `tensorboard --logdir DIR`.",
)
def show(run: str, coordinator: str, report: Path | None, tensorboard: Path | None) -> None:
    """Show the rounds of a RUN: the metrics, as means and node by node, and their curves."""

    async def told(found: AsyncRun[Any]) -> tuple[RunInfo, Rounds]:
        history = await found.catch_up()
        return await found.info(), Rounds(history.lines(), history.best(found.task.stop))

    info, rounds = _with_run(coordinator, run, told)
    state = f"{info.state}, round {info.round} of {info.rounds}"
    click.echo(f"{info.run}  {state}" + (f": {plain(info.reason)}" if info.reason else ""))
    for node in info.participants:
        click.echo(f"{plain(node.node_id)}  {node.state}  {node.examples} examples  {plain(node.reason)}".rstrip())
    click.echo(repr(rounds))
    if report is not None:
        report.write_text(page(info, rounds, time.time()), encoding="utf-8")
        click.echo(f"report -> {report}")
    if tensorboard is not None:
        for file in export(tensorboard / info.run, rounds, info.created):
            click.echo(f"events -> {file}")


@runs.command(context_settings=SETTINGS)
@_run
@coordinator_option
def stop(run: str, coordinator: str) -> None:
    """End a RUN; what it learned so far stays."""
    info = _with_run(coordinator, run, lambda found: found.stop())
    click.echo(f"{info.run}  asked to stop in round {info.round}" if not info.reason else f"{info.run}  {info.state}")


@runs.command(context_settings=SETTINGS)
@_run
@coordinator_option
@click.option("--round", "number", type=click.IntRange(min=1), help="The round whose checkpoint is meant; the newest.")
@click.option("--best", is_flag=True, help="The best one by the run's rule for stopping.")
@click.option("-o", "--out", type=_file, default=Path("trained.safetensors"), help="Where the trained plan goes.")
def get(run: str, coordinator: str, number: int | None, best: bool, out: Path) -> None:
    """Fetch what a RUN learned, as a plan: of its newest checkpoint, or of a round whose checkpoint is kept."""

    async def fetched(found: AsyncRun[Any]) -> Plan | Study:
        wanted = number or 0
        if best:
            wanted = (await found.catch_up()).best(found.task.stop)
            if not wanted:
                raise click.UsageError("this run has no best round: its task has no rule for stopping")
        learned: Plan | Study = await found.checkpoint(wanted)
        return learned

    click.echo(f"{_with_run(coordinator, run, fetched).save(out)}")


def _ask(coordinator: str, work: Callable[[Grid], Awaitable[T]]) -> T:
    """Something of a coordinator; no gateway is asked."""

    async def asked() -> T:
        async with aconnect(coordinator) as grid:
            return await work(grid)

    return asyncio.run(asked())


def _with_run(coordinator: str, run: str, work: Callable[[AsyncRun[Any]], Awaitable[Any]]) -> Any:
    async def asked(grid: Grid) -> Any:
        return await work(await grid.run(run, coordinator))

    return _ask(coordinator, asked)
