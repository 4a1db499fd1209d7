"""`grid-node dataset`: files become datasets, and datasets are listed and removed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from grid.cli.describe import describe
from grid.cli.desk import data_option, open_blobs, open_desk
from grid.node.catalogue import check_info, tidy_tags
from grid.store import datasets as store
from grid.store.blobs import Draft
from grid.store.database import Database
from grid.wire.node import DatasetInfo
from grid.wire.problems import DatasetExists, DatasetRefused

LARGE = 4_000_000
"""Bytes of a file from which on its reading shows a progress bar."""


@click.group()
def dataset() -> None:
    """The data that this node holds: described to others, never handed out."""


@dataset.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", help="What to call it.  [default: the file's name without its ending]")
@click.option("--tag", multiple=True, help="A word to find it by, such as '#mnist'; may be repeated.")
@click.option("--target", help="What is to be learned: a column (NPY: its number) or an array.")
@click.option("--description", default="", help="A few words about it, for everybody on the grid.")
@click.option("--class", "classes", multiple=True, help="The classes of the target, in an order all nodes agree on.")
@click.option("--regression", is_flag=True, help="Learn a target of whole numbers as numbers, not as classes.")
@click.option("--drop", multiple=True, help="A column or array to leave out; may be repeated.")
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
    data: Path,
) -> None:
    """Turn the file at PATH (.csv, .tsv, .parquet, .npy, .npz) into a dataset of this node.

    Its columns, their words and the classes are told to whoever asks; its values are not.
    """
    info = check_info(DatasetInfo(name=name or path.stem, description=description, tags=tidy_tags(tag)))
    read = partial(_read, path, info, target=target, classes=classes, regression=regression, drop=drop)
    for line in describe(asyncio.run(_add(data, info.name, read))):
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


Write = Callable[[Draft], DatasetInfo]


async def _add(data: Path, name: str, read: Write) -> DatasetInfo:
    async with open_desk(data) as desk:
        if any(info.name == name for info in await desk.datasets()):
            raise DatasetExists(f"a dataset named {name} is already here; remove it first")
    draft = open_blobs(data).create()
    try:
        info = read(draft)
        await draft.commit()
        async with open_desk(data) as desk:
            return await desk.add(info, draft.digest)
    except BaseException:
        draft.abort()
        await _discard(data, draft.digest)
        raise


async def _discard(data: Path, digest: str) -> None:
    """Delete a file of tensors that is no dataset after all."""
    async with Database(data / "node.db", "node") as database:
        if not database.read_now(partial(store.uses, digest=digest)):
            open_blobs(data).delete(digest)


def _read(
    path: Path,
    info: DatasetInfo,
    draft: Draft,
    *,
    target: str | None,
    classes: tuple[str, ...],
    regression: bool,
    drop: tuple[str, ...],
) -> DatasetInfo:
    """Read the file and write its tensors to `draft`: the only thing here that needs numpy."""
    try:
        from grid.node.ingest import Reading, ingest, write_tensors
    except ModuleNotFoundError as error:
        raise DatasetRefused(f"reading data needs {error.name}: install grid-daemon[node]") from None
    with _progress(path) as progress:
        described, tensors = ingest(path, info, Reading(target, classes, regression, drop), progress)
    write_tensors(tensors, draft)
    return described


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[float], None]]:
    """A bar for somebody who watches a large file being read."""
    if not sys.stderr.isatty() or not path.is_file() or path.stat().st_size < LARGE:
        yield lambda share: None
        return
    with click.progressbar(length=1000, label=f"reading {path.name}", file=sys.stderr) as bar:
        yield lambda share: bar.update(int(1000 * share) - bar.pos)
