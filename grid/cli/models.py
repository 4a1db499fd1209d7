"""`grid-node model`: the models that this node keeps, their checkpoints, and who may do what with them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import click

from grid.cli.desk import Office, data_option, open_office
from grid.cli.plainly import Plainly, word
from grid.client.models import hosted
from grid.client.payload import read_blocks
from grid.client.tables import size, table
from grid.wire import models as wire
from grid.wire.names import Name

T = TypeVar("T")

MODEL = word(Name, "name of a model")
VARIANT = word(Name, "name of a variant")
CHECKPOINT = word(Name, "name of a checkpoint")
SUBJECT = word(wire.Subject, "account, key, @GROUP or *")
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group(cls=Plainly)
def model() -> None:
    """Models of this node: model, variant, checkpoint. Nobody but their owner sees them, unless a rule says so."""


@model.command(name="list")
@data_option
def list_models(data: Path) -> None:
    """List all models with their variants and checkpoints."""

    async def told(office: Office) -> list[tuple[str, ...]]:
        rows: list[tuple[str, ...]] = []
        after = ""
        while found := (await office.ask(wire.MODELS, query=wire.ModelPage(after))).models:
            for each in found:
                variants = [await office.ask(wire.VARIANT, model=each.model, variant=v) for v in each.variants]
                rows += [(each.model, v.variant, ", ".join(v.checkpoints), each.owner) for v in variants] or [
                    (each.model, "", "", each.owner)
                ]
            after = found[-1].model
        return rows

    click.echo(table(("model", "variant", "checkpoints", "owner"), run(data, told)))


@model.command()
@click.argument("name", metavar="MODEL", type=MODEL)
@click.argument("variant", type=VARIANT)
@click.argument("checkpoint", type=CHECKPOINT)
@click.argument("file", type=FILE)
@click.option("--about", default="", help="Words about the model, if it is new.")
@data_option
def add(name: str, variant: str, checkpoint: str, file: Path, about: str, data: Path) -> None:
    """Keep FILE (a plan, as `grid plan` writes it, or other tensors) as CHECKPOINT of VARIANT of MODEL, new or not."""

    async def added(office: Office) -> wire.CheckpointInfo:
        await _have(office, name, variant, about)
        return await office.calls.upload(
            office.address,
            wire.PUT_CHECKPOINT_FILE,
            read_blocks(file),
            length=file.stat().st_size,
            peer=office.peer,
            model=name,
            variant=variant,
            checkpoint=checkpoint,
        )

    kept = run(data, added)
    click.echo(f"{name}/{variant}/{kept.checkpoint}  {size(kept.size)}  {kept.digest[:12]}")


async def _have(office: Office, name: str, variant: str, about: str) -> None:
    """The model and the variant, made if they are not there."""
    page = await office.ask(wire.MODELS, query=wire.ModelPage(most=1000))
    there = {each.model: each.variants for each in page.models}
    if name not in there:
        await office.ask(wire.PUT_MODEL, wire.NewModel(about), model=name)
    if variant not in there.get(name, ()):
        await office.ask(wire.PUT_VARIANT, wire.NewVariant(), model=name, variant=variant)


@model.command()
@click.argument("name", metavar="MODEL", type=MODEL)
@click.option("--downloads/--no-downloads", default=True, help="Those who see it may have its files.")
@click.option("--predicts/--no-predicts", default=True, help="It answers for rows of theirs, in this node's workers.")
@click.option("--rows", type=click.IntRange(1, wire.MOST_ROWS), default=1024, help="So many rows at a time.")
@click.option("--cost", type=click.FloatRange(0, 1e6), default=0.0, help="Epsilon for each row: it answers by labels.")
@click.option("--of", "dataset", type=word(Name, "name of a dataset"), help="The dataset whose budgets pay for it.")
@data_option
def host(name: str, downloads: bool, predicts: bool, rows: int, cost: float, dataset: str | None, data: Path) -> None:
    """Let MODEL answer those who see it (`allow`), from its first checkpoint, or from the one they name."""
    said = wire.Hosting(downloads, predicts, rows, dataset or "", cost)
    click.echo(hosted(run(data, lambda office: office.ask(wire.HOST, said, model=name)).hosting))


@model.command()
@click.argument("name", metavar="MODEL", type=MODEL)
@data_option
def remove(name: str, data: Path) -> None:
    """Remove MODEL with its variants and checkpoints."""
    click.echo(run(data, lambda office: office.ask(wire.REMOVE_MODEL, model=name)).message)


@model.command()
@click.argument("name", metavar="MODEL", type=MODEL)
@click.argument("subject", type=SUBJECT)
@click.option("--commit/--no-commit", default=False, help="It may commit to tasks for the model.")
@click.option("--open/--no-open", "opens", default=False, help="It may open tasks for the model.")
@click.option("--most", type=click.IntRange(0), default=1, help="So often to each task; 0: as often as it likes.")
@data_option
def allow(name: str, subject: str, commit: bool, opens: bool, most: int, data: Path) -> None:
    """Let SUBJECT see MODEL, and do with it what else is said: an account, a key, @GROUP, or * for everybody."""
    _rule(data, name, subject, wire.AccessRule(commits=commit, opens=opens, most=most))


@model.command()
@click.argument("name", metavar="MODEL", type=MODEL)
@click.argument("subject", type=SUBJECT)
@data_option
def forbid(name: str, subject: str, data: Path) -> None:
    """Keep SUBJECT away from MODEL, whatever is said of its groups and of everybody."""
    _rule(data, name, subject, wire.AccessRule(sees=False))


@model.command()
@click.argument("name", metavar="MODEL", type=MODEL)
@click.argument("subject", type=SUBJECT)
@data_option
def unsay(name: str, subject: str, data: Path) -> None:
    """Say nothing about SUBJECT any more."""
    _show(run(data, lambda office: office.ask(wire.DROP_RULE, model=name, subject=subject)))


@model.command()
@click.argument("name", metavar="MODEL", type=MODEL)
@data_option
def rules(name: str, data: Path) -> None:
    """Show who may do what with MODEL."""
    _show(run(data, lambda office: office.ask(wire.RULES, model=name)))


def _rule(data: Path, name: str, subject: str, rule: wire.AccessRule) -> None:
    _show(run(data, lambda office: office.ask(wire.PUT_RULE, rule, model=name, subject=subject)))


def _show(said: wire.AccessRules) -> None:
    def yes(flag: bool) -> str:
        return "yes" if flag else "no"

    rows = [
        (subject, yes(rule.sees), yes(rule.commits), yes(rule.opens), str(rule.most or "any"))
        for subject, rule in said.rules.items()
    ]
    click.echo(table(("subject", "sees", "commits", "opens", "most"), rows))


def run(data: Path, work: Callable[[Office], Awaitable[T]]) -> T:
    """Do something at the node whose state is in `data`, which has to run."""

    async def done() -> T:
        async with open_office(data) as office:
            return await work(office)

    return asyncio.run(done())


def when(at: float) -> str:
    """A time for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
