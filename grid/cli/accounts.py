"""`grid-gateway account`: who may call the gateway with a name and a password."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import click

from grid.cli.config import default_data
from grid.cli.plainly import Plainly
from grid.gateway.accounts import Accounts
from grid.store.database import Database

data_option = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_data("gateway"),
    envvar="GRID_DATA",
    show_default=True,
    help="Where the gateway's state is kept.",
)


@click.group(cls=Plainly)
def account() -> None:
    """Accounts, for programs that have no keys: those that were written for FriendlyFL."""


@account.command()
@click.argument("name")
@click.option("--email", default="", help="Where its holder is reached.")
@data_option
def add(name: str, email: str, data: Path) -> None:
    """Make an account; its password is drawn at random and printed, this once."""
    password = secrets.token_urlsafe(24)

    async def run(accounts: Accounts) -> None:
        await accounts.create(name, password, email)

    _with(data, run)
    click.echo(password)


@account.command(name="list")
@data_option
def list_accounts(data: Path) -> None:
    """List the accounts, oldest first."""

    async def run(accounts: Accounts) -> None:
        for row in await accounts.all():
            click.echo(f"{row.id}  {row.name}  {row.email}".rstrip())

    _with(data, run)


@account.command()
@click.argument("number", type=int)
@data_option
def remove(number: int, data: Path) -> None:
    """Remove the account of this NUMBER. Its sites stay, and answer to the gateway's owner alone."""

    async def run(accounts: Accounts) -> None:
        await accounts.delete(number)

    _with(data, run)


def _with(data: Path, work: Callable[[Accounts], Awaitable[None]]) -> None:
    """Work on the accounts of the gateway whose state is in `data`; it may run meanwhile."""

    async def run() -> None:
        async with Database(data / "gateway.db", "gateway") as database:
            await work(Accounts(database, time.time))

    asyncio.run(run())
