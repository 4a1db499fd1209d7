"""`grid peer`, and how pins are shown: by which keys names are known."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import click

from grid.cli.config import SETTINGS
from grid.cli.connect import aconnect, my_pins
from grid.cli.describe import plain
from grid.cli.plainly import Plainly, word
from grid.cli.train import gateway_option
from grid.protocol.pins import spelled
from grid.wire.names import PublicKey


def one_line(name: str, public_key: str, how: str, last_seen: float) -> str:
    """A pin in a list."""
    return f"{plain(name)}  {spelled(public_key)}  {how}  {_day(last_seen)}"


def in_full(name: str, public_key: str, how: str, first_seen: float, last_seen: float) -> tuple[str, ...]:
    """A pin by itself, to compare over the telephone."""
    return (
        f"name          {plain(name)}",
        f"public key    {public_key}",
        f"fingerprint   {spelled(public_key)}",
        f"known         by {how}, since {_day(first_seen)}, last met {_day(last_seen)}",
    )


@click.group(cls=Plainly)
def peer() -> None:
    """By which keys you know nodes, coordinators and gateways."""


@peer.command(name="list")
def known() -> None:
    """List everybody you have met, with the fingerprints of their keys."""
    for pin in my_pins(time.time).all().values():
        click.echo(one_line(pin.name, pin.public_key, pin.how, pin.last_seen))


@peer.command()
@click.argument("name")
def show(name: str) -> None:
    """Print by which key you know NAME."""
    pin = my_pins(time.time).all().get(name)
    if pin is None:
        raise click.ClickException(f"you have not met {name}")
    for line in in_full(pin.name, pin.public_key, pin.how, pin.first_seen, pin.last_seen):
        click.echo(line)


@peer.command()
@click.argument("name")
@click.argument("key", type=word(PublicKey, "key (43 letters, as `grid-node id` prints it)"))
def pin(name: str, key: str) -> None:
    """Know NAME by KEY from now on: you compared it with its owner."""
    my_pins(time.time).pin(name, key)
    click.echo(f"{name} is known by {spelled(key)}")


@peer.command()
@click.argument("name")
def forget(name: str) -> None:
    """Forget by which key NAME is known: the next one that is seen will be believed."""
    if not my_pins(time.time).forget(name):
        raise click.ClickException(f"you have not met {name}")
    click.echo(f"{name} will be met anew")


@peer.command(context_settings=SETTINGS)
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
@gateway_option
def compare(tags: tuple[str, ...], gateway: str) -> None:
    """Compare the gateway's log with what it showed each node that has data with every TAG."""

    async def compared() -> dict[str, str]:
        async with aconnect(gateway) as grid:
            return await grid.compare(*tags)

    told = asyncio.run(compared())
    for name, outcome in told.items():
        click.echo(f"{plain(name)}: {outcome}")
    if not told:
        raise click.ClickException("no verified node has such data")


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"
