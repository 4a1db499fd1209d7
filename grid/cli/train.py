"""`grid plan` and `grid train`: from a plan in a file to a trained one."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import click
from msgspec import Meta

from grid.cli.config import SETTINGS
from grid.cli.connect import aconnect
from grid.cli.plainly import Plainly, word
from grid.client.display import Progress
from grid.client.run import Result
from grid.learning.plan import Plan
from grid.learning.private import Privacy, made_private
from grid.learning.sheet import sheet
from grid.learning.strategy import BROADCASTS, PRESETS, UPLOADS
from grid.wire.names import Address

WHOM = Annotated[str, Meta(max_length=2048, pattern=r"^(dht\+)?https?://[^\s/?#@\\]+(/[^\s?#@\\]*)?(#[^\s#]{1,64})?\Z")]
gateway_option = click.option(
    "--gateway",
    type=word(WHOM, "url (http://HOST:PORT)"),
    default="http://127.0.0.1:5000",
    help="The gateway to ask, or with dht+ in front (dht+http://HOST:PORT) a peer of a network without a centre.",
)
_file = click.Path(dir_okay=False, path_type=Path)


def quorum_word(value: str) -> int | Literal["all"]:
    """A number of nodes, or `all`. Raises click's BadParameter where it is neither."""
    if value == "all":
        return "all"
    if not value.isdecimal() or not int(value):
        raise click.BadParameter(f"{value!r} is neither a number of nodes nor `all`")
    return int(value)


@click.group(cls=Plainly)
def plan() -> None:
    """Make plans and look at them. From a torch module of your own: grid.Plan.capture in Python."""


def recipe_options(command: Any) -> Any:
    """How a plan trains, as flags."""
    for option in (
        click.option("--out", type=_file, default=Path("plan.safetensors"), help="The file to write."),
        click.option("--seed", default=0, help="Draws the first parameters."),
        click.option("--batch", default=32, help="Examples in one step."),
        click.option("--epochs", default=1, help="Passes over the data in one round."),
        click.option("--lr", default=0.01, help="Learning rate."),
        click.option("--optimizer", default="adam", help="sgd, adam, adamw, rmsprop or adagrad."),
        click.option("--loss", default="cross_entropy", help="cross_entropy, mse, l1, huber or bce_with_logits."),
        click.option(
            "--metric",
            "metrics",
            multiple=True,
            default=("accuracy",),
            help="accuracy, top5, mse or mae.",
        ),
    ):
        command = option(command)
    return command


@plan.command(name="mlp", context_settings=SETTINGS)
@click.argument("sizes", nargs=-1, type=click.IntRange(min=1), required=True, metavar="FEATURES HIDDEN... OUTPUTS")
@recipe_options
def mlp(sizes: tuple[int, ...], out: Path, **settings: Any) -> None:
    """Linear layers of these SIZES with ReLU between them; two sizes make a linear model."""
    click.echo(repr(Plan.load(Plan.mlp(sizes, **settings).save(out))))


@plan.command(name="cnn", context_settings=SETTINGS)
@click.argument("image", nargs=3, type=click.IntRange(min=1), metavar="CHANNELS HEIGHT WIDTH")
@click.argument("outputs", type=click.IntRange(min=1))
@recipe_options
def cnn(image: tuple[int, int, int], outputs: int, out: Path, **settings: Any) -> None:
    """A small convolutional network on flat images."""
    click.echo(repr(Plan.load(Plan.cnn(image, outputs, **settings).save(out))))


@plan.command(name="show")
@click.argument("file", type=_file)
@click.option("--examples", type=click.IntRange(min=1), help="How many records it would train on.")
@click.option("--rounds", type=click.IntRange(min=1), help="For how many rounds.")
def show(file: Path, examples: int | None, rounds: int | None) -> None:
    """A sheet on the plan in a FILE: what it trains and sends, and warnings where it looks like an attack."""
    click.echo(repr(sheet(Plan.load(file), examples, rounds)))


@click.command(context_settings=SETTINGS)
@click.argument("file", type=_file, metavar="PLAN")
@click.option("--data", "tags", multiple=True, required=True, metavar="TAG", help="The data to learn from; repeats.")
@click.option("--rounds", type=click.IntRange(min=1), default=10, help="How many rounds.")
@click.option(
    "--quorum",
    type=quorum_word,
    metavar="NODES|all",
    help="The fewest nodes that make a round count, or all; half of them.",
)
@click.option("--target-updates", type=click.IntRange(min=0), default=0, help="As many close a round; 0: all.")
@click.option("--drawn", type=click.IntRange(min=0), default=0, help="Nodes drawn into each round; 0: all.")
@click.option("--deadline", type=click.FloatRange(min=1), default=600.0, help="Seconds for a round at most.")
@click.option(
    "--pace",
    type=click.FloatRange(0, 100),
    default=0.0,
    help="A round ends after so many times as long as most updates of past rounds took; 0: at the deadline.",
)
@click.option("--holdout", type=click.FloatRange(0, 0.9), default=0.2, help="Share of examples kept for evaluation.")
@click.option(
    "--strategy", type=click.Choice(sorted(PRESETS)), default="fedavg", help="How updates become the next model."
)
@click.option("--upload", type=click.Choice(list(UPLOADS)), help="How updates travel.  [default: exact]")
@click.option("--secure", is_flag=True, help="Let nobody see an update but summed (--upload masked).")
@click.option("--clip", type=click.FloatRange(0), default=0.0, help="With --noise: to which norm a node is clipped.")
@click.option("--noise", type=click.FloatRange(0), default=0.0, help="Hide each node in the sum: noise per --clip.")
@click.option(
    "--clip-quantile",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.0,
    help="Let the clip follow what nodes learn: this share of them within it; 0: it stays.",
)
@click.option("--dp-epsilon", type=click.FloatRange(0), default=0.0, help="Hide each record: what a run may cost it.")
@click.option("--dp-delta", type=click.FloatRange(0, 1), default=1e-5, help="The chance that it costs more.")
@click.option("--dp-clip", type=click.FloatRange(0), default=1.0, help="To which norm a record's gradient is clipped.")
@click.option("--dp-rate", type=click.FloatRange(0, 1), default=0.1, help="Share of the records in each private step.")
@click.option("--broadcast", type=click.Choice(list(BROADCASTS)), default="exact", help="How models travel.")
@click.option("--stop-on", metavar="METRIC[:PATIENCE[:GAIN]]", help="End once it was no better for so many rounds.")
@click.option("--target", default="target", help="The tensor to be learned.")
@click.option("--coordinator", type=word(Address, "url (http://HOST:PORT)"), help="A node to drive the run; else here.")
@click.option("--host", default="127.0.0.1", help="Where a coordinator in this process listens.")
@click.option("--address", type=word(Address, "url (http://HOST:PORT)"), help="How nodes reach it, if not by --host.")
@click.option(
    "--listen/--no-listen", default=True, help="Whether a coordinator in this process has a port; else by letters."
)
@click.option("--out", type=_file, default=Path("trained.safetensors"), help="Where the trained plan goes.")
@gateway_option
def train(
    file: Path,
    tags: tuple[str, ...],
    host: str,
    address: str | None,
    listen: bool,
    out: Path,
    gateway: str,
    dp_epsilon: float,
    dp_delta: float,
    dp_clip: float,
    dp_rate: float,
    **how: Any,
) -> None:
    """Train a PLAN on every node whose data has the tags, and fetch what was learned: the best of it with --stop-on."""

    plan, rounds = Plan.load(file), how["rounds"]
    if dp_epsilon:
        plan = made_private(plan, Privacy(dp_epsilon, dp_delta, dp_clip, dp_rate), rounds)
    if plan.recipe.dp:
        click.echo(sheet(plan, rounds=rounds).private, err=True)

    async def trained() -> Result[Plan]:
        async with aconnect(gateway, host=host, address=address, listen=listen) as grid:
            run = await grid.train(plan, tags, **how)
            for node in run.skipped:
                click.echo(f"{node}: left out, it never proved who it is", err=True)
            return await run.result(Progress(rounds, sys.stderr))

    result = asyncio.run(trained())
    (result.best or result.plan).save(out)
    which = f"round {result.best_round} was the best " if result.best else ""
    click.echo(f"{result!r} {which}-> {out}")
