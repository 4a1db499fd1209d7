"""`grid-node measured`: what this node measured on its own data, in the runs that it took part in."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from grid.cli.config import SETTINGS
from grid.cli.desk import data_option, open_desk
from grid.cli.plainly import word
from grid.client.tables import metrics, moment
from grid.wire.runs import Event, RunId


@click.command(context_settings=SETTINGS)
@click.option("--run", type=word(RunId, "id of a run"), help="Only what belongs to this run.")
@data_option
def measured(run: str | None, data: Path) -> None:
    """What models of others did on this node's data: of a checkpoint (evaluated), or in training (trained)."""

    async def told() -> list[Event]:
        async with open_desk(data) as desk:
            return await desk.measured()

    for event in asyncio.run(told()):
        if run in {None, event.data["run"]}:
            told_of = f"round {event.data['round']}  {event.kind}  {metrics(event.data['metrics'])}"
            click.echo(f"{moment(event.at)}  {event.data['run']}  {told_of}  {event.data['examples']} examples")
