"""`grid-node runs`: what this node takes part in, and what it tells its owner of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import click

from grid.cli.desk import Desk, data_option, open_desk
from grid.cli.plainly import Plainly, word
from grid.node.records import STOPPED
from grid.wire.node import Part
from grid.wire.runs import After, Event, RunId

WAIT = 25.0
"""Seconds for which one question for what comes next stays open."""

RUN = word(RunId, "id of a run, as `grid-node runs list` shows it")


@click.group(cls=Plainly)
def runs() -> None:
    """The runs that this node takes part in, and what it does in them."""


@runs.command(name="list")
@data_option
def list_runs(data: Path) -> None:
    """List the runs that this node takes part in, newest first."""
    asyncio.run(_list(data))


async def _list(data: Path) -> None:
    async with open_desk(data) as desk:
        for part in await desk.parts():
            click.echo(row(part))


def row(part: Part) -> str:
    """One run as people read it."""
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(part.since))
    on = f"  on {part.device}" if part.device else ""
    return f"{part.run}  {part.state}{on}  since {since}  for {part.scientist}  at {part.coordinator}"


@runs.command()
@click.argument("run", type=RUN)
@click.option("--follow", is_flag=True, help="Go on until this node's part in the run is over.")
@data_option
def log(run: str, follow: bool, data: Path) -> None:
    """Print what this node did in RUN, and how its training goes. Of the data there is nothing in it."""
    asyncio.run(_log(run, follow, data))


async def _log(run: str, follow: bool, data: Path) -> None:
    cursor, wait = 0, 0.0
    async with open_desk(data) as desk:
        while True:
            events = await desk.part_events(run, After(cursor, wait))
            for event in events:
                click.echo(line(event))
            cursor = events[-1].cursor if events else cursor
            if any(event.kind == "left" for event in events[-1:]):
                return
            if not events and not (follow and await _goes_on(desk, run)):
                return
            wait = 0.0 if events else WAIT


async def _goes_on(desk: Desk, run: str) -> bool:
    """Whether more may come: not where the daemon does not run."""
    return any(part.run == run and part.state != STOPPED for part in await desk.parts())


def line(event: Event) -> str:
    """One entry as people read it."""
    at = time.strftime("%H:%M:%S", time.localtime(event.at))
    told = "  ".join(f"{name} {_short(value)}" for name, value in event.data.items() if value not in {None, ""})
    return f"{at}  {event.kind:<10} {told}".rstrip()


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
