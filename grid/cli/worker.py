"""`grid-node worker`: the node's workers, listed, added and removed while it runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from grid.cli.desk import data_option, open_office
from grid.cli.plainly import Plainly
from grid.client.tables import size, table
from grid.wire import workers as wire
from grid.wire.endpoint import Endpoint


@click.group(cls=Plainly)
def worker() -> None:
    """The processes that train here, each in a sandbox of its own."""


@worker.command(name="list")
@data_option
def list_workers(data: Path) -> None:
    """List the workers with what they do and take."""
    _show(data, wire.WORKERS)


@worker.command()
@click.argument("count", type=click.IntRange(1, 256), default=1)
@data_option
def add(count: int, data: Path) -> None:
    """Have COUNT workers more, also after a restart."""
    _show(data, wire.ADD_WORKERS, wire.More(count))


@worker.command()
@click.argument("number", type=click.IntRange(1))
@data_option
def remove(number: int, data: Path) -> None:
    """Have one worker less. Whatever it was at begins anew with another."""
    _show(data, wire.REMOVE_WORKER, number=number)


def _show(data: Path, endpoint: Endpoint[Any, wire.Workers], message: Any = None, **path: Any) -> None:
    async def asked() -> wire.Workers:
        async with open_office(data) as office:
            return await office.ask(endpoint, message, **path)

    told = asyncio.run(asked())
    rows = [
        (str(w.number), w.job or "free", w.run[:12], f"{w.busy_for:.0f} s" if w.job else "", w.device if w.job else "",
         f"{w.seconds:.1f} s" if w.job else "", size(w.memory) if w.job else "")
        for w in told.workers
    ]  # fmt: skip
    click.echo(table(("worker", "does", "run", "for", "on", "processor", "memory"), rows))
    click.echo(f"{told.waiting} jobs wait; the machine's load is {told.load:.2f}")
