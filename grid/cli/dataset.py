"""`grid-node dataset`: files become datasets, and datasets are listed and removed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from grid.cli.describe import describe
from grid.cli.desk import data_option, open_blobs, open_desk
from grid.cli.permissions import COMMANDS, VISIBILITY
from grid.cli.reading import discard, read_file, reading_options
from grid.node.catalogue import check_info, tidy_tags
from grid.protocol.permission import Visibility
from grid.store.blobs import Draft
from grid.wire.node import DatasetInfo
from grid.wire.problems import DatasetExists


@click.group()
def dataset() -> None:
    """The data that this node holds: described to others, never handed out."""


@dataset.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it.  [default: the file's name without its ending]")
@click.option("--tag", multiple=True, help="A word to find it by, such as '#mnist'; may be repeated.")
@click.option("--description", default="", help="A few words about it, for everybody on the grid.")
@click.option("--visibility", type=VISIBILITY, default="private", show_default=True, help="Who may find or have it.")
@reading_options
@data_option
def add(
    path: Path,
    name: str | None,
    tag: tuple[str, ...],
    target: str | None,
    description: str,
    classes: tuple[str, ...],
    regression: bool,
    drop: tuple[str, ...],
    visibility: Visibility,
    data: Path,
) -> None:
    """Turn the file at PATH (.csv, .tsv, .parquet, .npy, .npz) into a dataset of this node.

    Its columns, their words and the classes are told to whoever asks; its values are not.
    """
    info = check_info(DatasetInfo(name=name or path.stem, description=description, tags=tidy_tags(tag)))
    read = partial(read_file, path, info, target=target, classes=classes, regression=regression, drop=drop)
    for line in describe(asyncio.run(_add(data, info.name, read, visibility))):
        click.echo(line)


@dataset.command(name="list")
@data_option
def list_datasets(data: Path) -> None:
    """List the datasets of this node as others see them."""

    async def datasets() -> tuple[DatasetInfo, ...]:
        async with open_desk(data) as desk:
            return await desk.datasets()

    for info in asyncio.run(datasets()):
        for line in describe(info):
            click.echo(line)


@dataset.command()
@click.argument("name")
@data_option
def remove(name: str, data: Path) -> None:
    """Remove the dataset NAME and its file in the node's store."""

    async def remove() -> None:
        async with open_desk(data) as desk:
            await desk.remove(name)

    asyncio.run(remove())
    click.echo(f"dataset {name} was removed")


for command in COMMANDS:
    dataset.add_command(command)

Write = Callable[[Draft], DatasetInfo]


async def _add(data: Path, name: str, read: Write, visibility: Visibility) -> DatasetInfo:
    async with open_desk(data) as desk:
        if any(info.name == name for info in await desk.datasets()):
            raise DatasetExists(f"a dataset named {name} is already here; remove it first")
    draft = open_blobs(data).create()
    try:
        info = read(draft)
        await draft.commit()
        async with open_desk(data) as desk:
            return await desk.add(info, draft.digest, visibility)
    except BaseException:
        draft.abort()
        await discard(data, draft.digest)
        raise
