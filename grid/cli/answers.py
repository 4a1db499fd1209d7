"""`grid models` and `grid predict`: the models that nodes host, and what they answer for rows in a file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import click

from grid.cli.config import SETTINGS
from grid.cli.connect import aconnect
from grid.cli.plainly import word
from grid.client.models import AsyncModel, hosted
from grid.client.tables import plain, table
from grid.wire.names import Address, Name

_node = word(Address, "url (http://HOST:PORT)")
_file = click.Path(dir_okay=False, path_type=Path)


@click.command(context_settings=SETTINGS)
@click.argument("nodes", nargs=-1, required=True, type=_node, metavar="NODE...")
def models(nodes: tuple[str, ...]) -> None:
    """List the models that you may see at the nodes of these addresses, and what you may have of them."""
    found = [(node, each) for node in nodes for each in asyncio.run(_models(node))]
    rows = [(node, each.name, plain(each.info.details), hosted(each.info.hosting)) for node, each in found]
    click.echo(
        table(("node", "model", "about", "and you"), rows) if rows else "no models that you may see", err=not rows
    )


@click.command(context_settings=SETTINGS)
@click.argument("node", type=_node)
@click.argument("model", type=word(Name, "name of a model"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--variant", default="", help="Not the one to begin with.")
@click.option("--checkpoint", default="", help="Not the one to begin with.")
@click.option("--out", type=_file, help="Write the answers to this NPY file, not as text to standard output.")
def predict(node: str, model: str, file: Path, variant: str, checkpoint: str, out: Path | None) -> None:
    """Ask MODEL at NODE about the rows in FILE: NPY, or NPZ with the plan's inputs by name."""

    async def answered(rows: Any) -> Any:
        async with aconnect(node) as grid:
            for each in await grid.models(node):
                if each.name == model:
                    return await each.predict(rows, variant=variant, checkpoint=checkpoint)
        raise click.ClickException(f"{node} shows you no model {model}")

    answers = asyncio.run(answered(_rows(file)))
    _hand_out(answers, out)


async def _models(node: str) -> list[AsyncModel]:
    async with aconnect(node) as grid:
        return await grid.models(node)


def _rows(file: Path) -> Any:
    """The arrays in a file. Raises click's ClickException where it holds none, or objects that would need pickle."""
    import numpy as np

    try:
        held = np.load(file, allow_pickle=False)
        return {name: held[name] for name in held.files} if isinstance(held, np.lib.npyio.NpzFile) else held
    except (ValueError, OSError, EOFError) as error:
        raise click.ClickException(f"{file} holds no arrays: {error}") from None


def _hand_out(answers: Any, out: Path | None) -> None:
    """Into a file, or a line for each row."""
    import numpy as np

    if out is not None:
        np.save(out, answers, allow_pickle=False)
        click.echo(f"{len(answers)} answers in {out}")
        return
    np.savetxt(sys.stdout, answers.reshape(len(answers), -1), fmt="%g")
