"""`grid-node dataset set`, `permit`, `forbid`, `unsay`, `show` and `mock`: who may have what, and what to try it on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
from msgspec import UNSET

from grid.cli.desk import data_option, open_blobs, open_office
from grid.cli.reading import discard, read_file, reading_options
from grid.client.tables import table
from grid.node.catalogue import tidy_tags
from grid.wire import permissions as wire
from grid.wire.endpoint import Endpoint
from grid.wire.node import DATASET, DatasetInfo
from grid.wire.problems import BadRequest
from grid.wire.requests import SET_GATES, GateSetting

VISIBILITY = click.Choice(["public", "private", "hidden"])


def _ask(data: Path, endpoint: Endpoint[Any, Any], message: Any = None, **path: str) -> Any:
    async def asked() -> Any:
        async with open_office(data) as office:
            return await office.ask(endpoint, message, **path)

    return asyncio.run(asked())


@click.command(name="set")
@click.argument("name")
@click.option("--visibility", type=VISIBILITY, help="Who may find it, or have it.")
@click.option("--description", help="Other words about it.")
@click.option("--tag", multiple=True, help="A word to find it by, in place of those before; may be repeated.")
@data_option
def set_dataset(name: str, visibility: Any, description: str | None, tag: tuple[str, ...], data: Path) -> None:
    """Describe the dataset NAME anew, or let others see more or less of it."""
    change = wire.DatasetChange(
        description=UNSET if description is None else description,
        tags=tidy_tags(tag) if tag else UNSET,
        visibility=UNSET if visibility is None else visibility,
    )
    if change == wire.DatasetChange():
        raise BadRequest("nothing is to be changed; see --help")
    _ask(data, wire.CHANGE_DATASET, change, name=name)


def _saying(command: Callable[..., None]) -> Callable[..., None]:
    """What a word about a permission names."""
    for option in (
        data_option,
        click.option("--tensor", help="Only this one of its tensors."),
        click.option("--group", help="The accounts of this group."),
        click.option("--user", help="This account."),
        click.argument("action", type=click.Choice(["find", "read", "train"])),
        click.argument("name"),
    ):
        command = option(command)
    return command


def _say(allow: bool | None, name: str, action: Any, data: Path, **whom: str | None) -> None:
    click.echo(_ask(data, wire.PERMIT, wire.Permit(action, allow, **whom), name=name).message)


@click.command()
@_saying
def permit(name: str, action: str, user: str | None, group: str | None, tensor: str | None, data: Path) -> None:
    """Let somebody find, read or train on the dataset NAME; with --tensor alone, whoever asks for that."""
    _say(True, name, action, data, user=user, group=group, tensor=tensor)


@click.command()
@_saying
def forbid(name: str, action: str, user: str | None, group: str | None, tensor: str | None, data: Path) -> None:
    """Do not let them. A word about a user goes before one about a group, and this before one about a tensor."""
    _say(False, name, action, data, user=user, group=group, tensor=tensor)


@click.command()
@_saying
def unsay(name: str, action: str, user: str | None, group: str | None, tensor: str | None, data: Path) -> None:
    """Say no more about it, one way or the other."""
    _say(None, name, action, data, user=user, group=group, tensor=tensor)


@click.command()
@click.argument("name")
@data_option
def show(name: str, data: Path) -> None:
    """Show who may do what with the dataset NAME."""
    told: wire.Permitted = _ask(data, wire.PERMISSIONS, name=name)
    mock = "the owner's" if told.mock else "made from its description"
    click.echo(f"{name} is {told.visibility}; mock: {mock}")
    rows = [
        (each.user or each.group or "", "user" if each.user else "group" if each.group else "whoever asks",
         each.tensor or "all of it", each.action, "may" if each.allow else "may not")
        for each in told.permissions
    ]  # fmt: skip
    if rows:
        click.echo(table(("whom", "", "what", "action", ""), rows))


@click.command()
@click.argument("name")
@click.argument("path", type=click.Path(path_type=Path), required=False)
@click.option("--drop-mock", is_flag=True, help="Have none of your own any more.")
@reading_options
@data_option
def mock(name: str, path: Path | None, drop_mock: bool, data: Path, **reading: Any) -> None:
    """Let whoever finds the dataset NAME try plans on the rows in the file at PATH, which nobody is in."""
    if (path is None) == (not drop_mock):
        raise BadRequest("name a file, or --drop-mock")
    asyncio.run(_mock(data, name, path, reading))


async def _mock(data: Path, name: str, path: Path | None, reading: dict[str, Any]) -> None:
    async with open_office(data) as office:
        change = partial(office.ask, wire.CHANGE_DATASET, name=name)
        if path is None:
            await change(wire.DatasetChange(mock=None))
            return
        info: DatasetInfo = await office.ask(DATASET, name=name)
        draft = open_blobs(data).create()
        try:
            read_file(path, DatasetInfo(name=name), draft, **reading | {"classes": reading["classes"] or info.classes})
            await draft.commit()
            await change(wire.DatasetChange(mock=draft.digest))
        except BaseException:
            draft.abort()
            await discard(data, draft.digest)
            raise


@click.command()
@click.argument("name")
@click.option("--admission/--no-admission", default=False, help="An officer admits each run before it begins.")
@click.option("--release/--no-release", default=False, help="An officer releases what a run learned before it leaves.")
@click.option("--keeper", "keepers", multiple=True, help="The key of a node that may drive such runs; may be repeated.")
@data_option
def gate(name: str, admission: bool, release: bool, keepers: tuple[str, ...], data: Path) -> None:
    """Say what an officer looks at, of runs on the dataset NAME: these gates, and no others."""
    click.echo(_ask(data, SET_GATES, GateSetting(admission, release, keepers), name=name).message)


COMMANDS = (set_dataset, permit, forbid, unsay, show, mock, gate)
