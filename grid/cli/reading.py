"""How a file is read into tensors: the options for that, and the reading itself, with a bar for who watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import click

from grid.cli.desk import open_blobs
from grid.store import datasets as store
from grid.store.blobs import Draft
from grid.store.database import Database
from grid.wire.node import DatasetInfo
from grid.wire.problems import DatasetRefused

LARGE = 4_000_000
"""Bytes of a file from which on its reading shows a progress bar."""


def reading_options(command: Callable[..., None]) -> Callable[..., None]:
    """`--target`, `--class`, `--regression` and `--drop`."""
    for option in (
        click.option("--drop", multiple=True, help="A column or array to leave out; may be repeated."),
        click.option("--regression", is_flag=True, help="Learn a target of whole numbers as numbers, not as classes."),
        click.option(
            "--class", "classes", multiple=True, help="The classes of the target, in an order all nodes agree on."
        ),
        click.option("--target", help="What is to be learned: a column (NPY: its number) or an array."),
    ):
        command = option(command)
    return command


def read_file(
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


async def discard(data: Path, digest: str) -> None:
    """Delete a file of tensors that is no dataset after all."""
    async with Database(data / "node.db", "node") as database:
        if not database.read_now(partial(store.uses, digest=digest)):
            open_blobs(data).delete(digest)
