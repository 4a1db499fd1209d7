"""`grid-node dht`: what this node knows of its network without a centre, and what it finds there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import click

from grid.cli.desk import data_option, open_office
from grid.cli.plainly import Plainly
from grid.wire.dht import KNOWN, SEARCH_HERE, FoundHere, Known
from grid.wire.directory import Search
from grid.wire.problems import NotFound


@click.group(cls=Plainly)
def dht() -> None:
    """Look at the network without a centre that this node, which has to run, is part of."""


@dht.command()
@data_option
def status(data: Path) -> None:
    """Print whom the node knows, what it keeps for others, and what it counted."""
    known = asyncio.run(_known(data))
    click.echo(f"network       {known.network or '(without a name)'}")
    click.echo(f"key           {known.key}")
    click.echo(f"peers         {len(known.contacts)}")
    click.echo(f"records       {known.records}, {known.bytes} bytes")
    for name, count in sorted(known.counted.items()):
        click.echo(f"{name:13} {count}")
    for reason, count in sorted(known.refused.items()):
        click.echo(f"refused       {count} for {reason}")


@dht.command()
@data_option
def peers(data: Path) -> None:
    """Print the addresses of the peers that the node knows."""
    for address in sorted(asyncio.run(_known(data)).contacts):
        click.echo(address)


@dht.command()
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@click.option("--any", "match_any", is_flag=True, help="Nodes with any of the tags, not all of them.")
@data_option
def lookup(tags: tuple[str, ...], match_any: bool, data: Path) -> None:
    """Print the nodes that have data with every TAG, and how long it took to find them."""
    began = time.perf_counter()
    found = asyncio.run(_found(data, Search(tags, "any" if match_any else "all")))
    for name, address in found.node_addresses:
        click.echo(f"{name}  {address}{'  (one of several keys)' if name in found.unverified else ''}")
    click.echo(f"{len(found.node_addresses)} found in {1000 * (time.perf_counter() - began):.0f} ms", err=True)


async def _known(data: Path) -> Known:
    async with open_office(data) as office:
        try:
            return await office.ask(KNOWN)
        except NotFound:
            raise _alone() from None


async def _found(data: Path, search: Search) -> FoundHere:
    await _known(data)  # a node that is no peer answers searches, too, of itself alone
    async with open_office(data) as office:
        return await office.ask(SEARCH_HERE, search)


def _alone() -> NotFound:
    return NotFound("this node is not part of a network without a centre; start it with --dht")
