"""`grid-node flaas`: the management commands of FLaaS-Server, with the outputs of its README."""

from __future__ import annotations

import asyncio
import secrets
import string
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from grid.cli import flaas_tables as tables
from grid.cli.describe import plain
from grid.cli.desk import data_option, open_office
from grid.cli.people import Place, open_counter
from grid.cli.plainly import Plainly, word
from grid.node.fleet import registry
from grid.protocol.fleet import Powered
from grid.protocol.roles import USER
from grid.store import fleets
from grid.store.database import Database
from grid.store.schema import Snapshot, Transaction
from grid.wire import accounts as wire
from grid.wire.flaas import TICK

T = TypeVar("T")

ACCOUNT = word(wire.AccountName, "name of an account")
LETTERS = string.ascii_letters + string.digits
SHORTEST = 12
"""Letters of a password, which is also what accounts ask for."""
JSON_FILE = click.Path(dir_okay=False, path_type=Path)

project = click.argument("project", type=click.IntRange(1))
length = click.option("--length", type=click.IntRange(SHORTEST, 128), default=16, help="Password length")


def filters(command: Callable[..., None]) -> Callable[..., None]:
    """Which reports a command is about."""
    for option in (
        click.option("--plugged-only", is_flag=True, help="Only include power-plugged users"),
        click.option(
            "--battery-level",
            type=click.FloatRange(0, 1),
            default=0.0,
            help="Include power-plugged AND users with >= battery level threshold.",
        ),
        click.option(
            "--past-minutes", type=click.IntRange(1), default=60, show_default=True, help="Past time to lookup"
        ),
    ):
        command = option(command)
    return command


@click.group(cls=Plainly)
def flaas() -> None:
    """Fleets of devices: their accounts, their projects, and how the rounds went."""


# --- what changes something ---------------------------------------------------------------------


@flaas.command()
@click.argument("accounts", type=click.IntRange(1, 100_000))
@click.option("--prefix", type=ACCOUNT, default="user", help="Prefix that will be used in the usernames")
@length
@click.option(
    "--samples-index-start", type=click.IntRange(0), default=0, help="Sample index start that will increment per user"
)
@data_option
def createusers(accounts: int, prefix: str, length: int, samples_index_start: int, data: Path) -> None:
    """Create users accounts with random passwords."""
    click.echo("username, password, samples_index")
    wanted = ((f"{prefix}{number + 1}", samples_index_start + number) for number in range(accounts))
    _devices(data, wanted, length, lambda *device: click.echo(", ".join(map(str, device))))


@flaas.command(name="create-single-user")
@click.argument("username", type=ACCOUNT)
@click.argument("samples_index", type=click.IntRange(0))
@length
@data_option
def create_single_user(username: str, samples_index: int, length: int, data: Path) -> None:
    """Create a new account with random password."""

    def told(name: str, password: str, index: int) -> None:
        click.echo("Created account with the following details:")
        click.echo(f"Username: {name}")
        click.echo(f"Password: {password}")
        click.echo(f"Samples Index: {index}")

    _devices(data, [(username, samples_index)], length, told)


@flaas.command()
@project
@click.option("--prefix", default="user", help="Prefix of users to be assigned to the given project.")
@data_option
def assign(project: int, prefix: str, data: Path) -> None:
    """Query users using a prefix and assign them to a particular project."""
    title, count = _write(data, lambda connection: registry.assign(connection, project, prefix))
    click.echo(f"{count} user(s) assigned succesfully to project '{plain(title)}'")


@flaas.command()
@data_option
def tick(data: Path) -> None:
    """Look at all projects now, as the running node does by itself whenever something happens."""

    async def said() -> list[str]:
        async with open_office(data) as office:
            return await office.ask(TICK)

    _print(map(plain, asyncio.run(said())))


# --- what tells something -----------------------------------------------------------------------


@flaas.command()
@click.argument("usernames", nargs=-1)
@filters
@data_option
def countresponses(
    usernames: tuple[str, ...], past_minutes: int, battery_level: float, plugged_only: bool, data: Path
) -> None:
    """Count device status responses per user."""
    _print(_read(data, tables.count_responses(_asked(past_minutes, battery_level, plugged_only), usernames)))


@flaas.command(name="responses-per-user")
@click.argument("usernames", nargs=-1)
@filters
@data_option
def responses_per_user(
    usernames: tuple[str, ...], past_minutes: int, battery_level: float, plugged_only: bool, data: Path
) -> None:
    """Report device status responses per user."""
    _print(_read(data, tables.responses_per_user(_asked(past_minutes, battery_level, plugged_only), usernames)))


@flaas.command()
@project
@filters
@click.option("--show-details", is_flag=True, help="Show details for each user's last response")
@data_option
def projectresponses(
    project: int, past_minutes: int, battery_level: float, plugged_only: bool, show_details: bool, data: Path
) -> None:
    """Query and report device responses for users registered to a project."""
    asked = _asked(past_minutes, battery_level, plugged_only)
    _print(_read(data, tables.project_responses(asked, project, show_details)))


@flaas.command(name="extract-device-status-responses")
@click.argument("start", type=click.DateTime(["%Y-%m-%d"]))
@click.argument("end", type=click.DateTime(["%Y-%m-%d"]))
@click.argument("filename", type=JSON_FILE)
@data_option
def extract_device_status_responses(start: datetime, end: datetime, filename: Path, data: Path) -> None:
    """Extract device status responses (event only) of each user, between two days (UTC), into a .json file."""
    begin, until = (each.replace(tzinfo=UTC).timestamp() for each in (start, end))
    _save(filename, _read(data, tables.device_responses(begin, until)))


@flaas.command(name="extract-train-responses")
@project
@click.argument("filename", type=JSON_FILE)
@click.option(
    "--type",
    "kind",
    type=click.Choice(["available", "joined", "replied"]),
    default="replied",
    help="Choose the type of responses to be included.",
)
@data_option
def extract_train_responses(project: int, filename: Path, kind: str, data: Path) -> None:
    """Extract train reponses into a .json file."""
    _save(filename, _read(data, tables.train_responses(project, kind)))


@flaas.command(name="extract-projects-start")
@data_option
def extract_projects_start(data: Path) -> None:
    """Report begin / end of all projects."""
    _print(_read(data, tables.project_starts))


@flaas.command()
@project
@data_option
def joinedrounds(project: int, data: Path) -> None:
    """Report number of joined rounds per user."""
    _print(_read(data, tables.joined_rounds(project)))


@flaas.command()
@project
@data_option
def roundstats(project: int, data: Path) -> None:
    """Report joined users per round."""
    _print(_read(data, tables.round_stats(project)))


@flaas.command()
@project
@click.option("--round", "which", type=click.IntRange(0), help="Round to be evaluated.  [default: last completed]")
@data_option
def performance(project: int, which: int | None, data: Path) -> None:
    """Report round performance of a project. If a round is not specified, the last one will be used."""
    _print(_read(data, tables.performance(project, which)))


@flaas.command(name="performance_multirounds")
@project
@click.option("--from", "first", type=click.IntRange(0), default=0, help="First round.")
@click.option("--to", "last", type=click.IntRange(0), help="Last round.  [default: last completed]")
@data_option
def performance_multirounds(project: int, first: int, last: int | None, data: Path) -> None:
    """Report the performance of all completed rounds of a project."""
    _print(_read(data, tables.performance_multirounds(project, first, last)))


# --- how ----------------------------------------------------------------------------------------


def _devices(data: Path, wanted: Iterable[tuple[str, int]], length: int, told: Callable[[str, str, int], None]) -> None:
    """Accounts that are devices, by name and samples index; `told` is called with each one's password as well."""

    async def made() -> None:
        async with open_counter(Place("node", data)) as office, Database(data / "node.db", "node") as database:
            for name, index in wanted:
                password = "".join(secrets.choice(LETTERS) for _ in range(length))
                await database.read(partial(fleets.refuse_samples, samples=index))
                await office.ask(wire.ADD_ACCOUNT, wire.NewAccount(name, password=password, role=USER.name))
                await database.write(partial(fleets.add_device, account=name, samples=index))
                told(name, password, index)

    asyncio.run(made())


def _asked(past_minutes: int, battery_level: float, plugged_only: bool) -> tables.Asked:
    return tables.Asked(time.time() - 60 * past_minutes, Powered(plugged_only, battery_level))


def _read(data: Path, work: Callable[[Snapshot], T]) -> T:
    """What the rows of the node say, whether it runs or not."""

    async def read() -> T:
        async with Database(data / "node.db", "node") as database:
            return await database.read(work)

    return asyncio.run(read())


def _write(data: Path, work: Callable[[Transaction], T]) -> T:
    async def write() -> T:
        async with Database(data / "node.db", "node") as database:
            return await database.write(work)

    return asyncio.run(write())


def _print(lines: Any) -> None:
    for line in lines:
        click.echo(line)


def _save(filename: Path, rows: Any) -> None:
    if filename.suffix != ".json":
        raise click.BadParameter("the file's name ends in .json")
    filename.write_bytes(msgspec.json.format(msgspec.json.encode(rows), indent=4))
