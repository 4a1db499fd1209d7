"""`grid`: the data scientist's command."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import click

from grid.cli.analyse import analyse, evaluate
from grid.cli.answers import models, predict
from grid.cli.config import SETTINGS
from grid.cli.connect import aconnect, my_identity
from grid.cli.describe import describe, plain
from grid.cli.my_runs import runs
from grid.cli.pinned import peer
from grid.cli.plainly import Plainly
from grid.cli.revoke_mine import revoke_mine
from grid.cli.simulate import simulate
from grid.cli.train import gateway_option, plan, train
from grid.client.datasets import AsyncDataset
from grid.client.grid import Node


@click.group(cls=Plainly)
@click.version_option(version("grid-daemon"))
def main() -> None:
    """Find data on the grid, and learn from it where it is."""


main.add_command(plan)
main.add_command(train)
main.add_command(analyse)
main.add_command(evaluate)
main.add_command(runs)
main.add_command(models)
main.add_command(predict)
main.add_command(peer)
main.add_command(revoke_mine)
main.add_command(simulate)


@main.command(name="id")
def identity() -> None:
    """Print your public key, for node owners to trust; made at the first call, kept in GRID_HOME."""
    click.echo(my_identity().id)


@main.command(context_settings=SETTINGS)
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.option("--any", "match_any", is_flag=True, help="Nodes with any of the tags, not all of them.")
@click.option("--live", is_flag=True, help="Ask the nodes themselves, not the gateway's index.")
@gateway_option
def search(tags: tuple[str, ...], match_any: bool, live: bool, gateway: str) -> None:
    """Find the nodes that have data with every TAG."""

    async def found() -> list[Node]:
        async with aconnect(gateway) as grid:
            return await grid.search(*tags, match="any" if match_any else "all", live=live)

    nodes = asyncio.run(found())
    for node in nodes:
        proof = "verified" if node.verified else "unverified"
        click.echo(f"{node.id}  {node.address}  {node.state}  {proof}  {' '.join(map(plain, node.tags))}".rstrip())
    if not nodes:
        click.echo("no node has such data", err=True)


@main.command(context_settings=SETTINGS)
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@gateway_option
def datasets(tags: tuple[str, ...], gateway: str) -> None:
    """Describe the datasets that have every TAG, node by node."""

    async def described() -> dict[str, tuple[AsyncDataset, ...]]:
        async with aconnect(gateway) as grid:
            return await grid.datasets(*tags)

    for node, infos in asyncio.run(described()).items():
        click.echo(f"at {node}:")
        for line in (line for each in infos for line in describe(each.info)):
            click.echo(f"  {line}")
