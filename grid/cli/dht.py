"""`grid-node dht`: what this node knows of its network without a centre, and what it finds there."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from pathlib import Path

import click

from grid.cli.desk import data_option, open_office
from grid.cli.network import invite as vouch
from grid.cli.plainly import Plainly, word
from grid.crypto.identity import Identity
from grid.wire.dht import KNOWN, SEARCH_HERE, FoundHere, Known
from grid.wire.directory import Search
from grid.wire.message import encode
from grid.wire.names import Name, PublicKey
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
    click.echo(f"whole         {_whole(known)}")
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


@dht.command()
@click.argument("key", type=word(PublicKey, "key (43 letters, as `grid-node id` prints it)"))
@click.option("--group", type=word(Name, "name"), required=True, help="Whose node it is: few of one group are asked.")
@click.option("--network", default="", help="The name of the network.")
@click.option("--days", type=click.IntRange(1, 3650), default=365, help="How long it may take part.")
@data_option
def invite(key: str, group: str, network: str, days: int, data: Path) -> None:
    """Sign, with this node's key, that the node with KEY may take part in a network whose --issuer this node is.

    What is printed goes into a file there, and that file's name after --membership.
    """
    issuer = Identity.load_or_create(data / "identity.key")
    signed = vouch(issuer, key, network, group, time.time() + days * 86_400.0)
    click.echo(encode(signed).decode())


def _whole(known: Known) -> str:
    if known.split_since is None:
        return "yes, as far as this node can see"
    since = datetime.fromtimestamp(known.split_since).astimezone()
    return f"perhaps not: {known.silent} peers that this node knew fell silent together ({since:%Y-%m-%d %H:%M:%S})"


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
