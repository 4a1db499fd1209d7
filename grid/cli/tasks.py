"""`grid-node task`: tasks that wait for devices, as whoever opened them looks after them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click
import msgspec

from grid.cli.desk import Office, data_option
from grid.cli.models import FILE, MODEL, VARIANT, run, when
from grid.cli.plainly import Plainly, word
from grid.cli.runs import WAIT, line
from grid.client.payload import read_blocks
from grid.client.tables import table
from grid.learning.strategy import named
from grid.wire import tasks as wire
from grid.wire.names import Name
from grid.wire.runs import After

TASK = word(Name, "name of a task")
SPAN = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"(\d+)([smhd])")


def span(text: str) -> float:
    """Seconds, of `90s`, `15m`, `12h` or `3d`."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no span of time, such as 90s, 15m, 12h or 3d")
    return float(found[1]) * SPAN[found[2]]


_name = click.argument("name", metavar="TASK", type=TASK)


@click.group(cls=Plainly)
def task() -> None:
    """Tasks that wait for devices: open, closed, aggregated, evaluated. See docs/flea.md."""


@task.command(name="list")
@click.option("--all", "everything", is_flag=True, help="Closed ones and drafts, too.")
@data_option
def list_tasks(everything: bool, data: Path) -> None:
    """List the open tasks."""

    async def told(office: Office) -> list[wire.TaskInfo]:
        found: list[wire.TaskInfo] = []
        first = ""
        while True:
            page = await office.ask(wire.TASKS, query=wire.TaskQuery(first=first, most=wire.PAGE, closed=everything))
            found += [each for each in page.tasks if each.task != first]
            if not page.more:
                return found
            first = page.tasks[-1].task

    rows = [
        (each.task, each.state, f"{each.model}/{each.variant}", ", ".join(each.checkpoints), when(each.ends))
        for each in run(data, told)
    ]
    click.echo(table(("task", "state", "model", "checkpoints", "until"), rows))


@task.command()
@_name
@click.argument("model", type=MODEL)
@click.argument("variant", type=VARIANT)
@click.argument("checkpoints", nargs=-1, required=True, type=word(Name, "name of a checkpoint"))
@click.option("--for", "seconds", type=span, default="1d", show_default=True, help="How long: 90s, 15m, 12h, 3d.")
@click.option("--file", type=FILE, help="The task's one file, for devices to understand.")
@click.option("--strategy", default="fedavg", show_default=True, help="How updates become one: the name of a preset.")
@data_option
def add(
    name: str,
    model: str,
    variant: str,
    checkpoints: tuple[str, ...],
    seconds: float,
    file: Path | None,
    strategy: str,
    data: Path,
) -> None:
    """Open TASK for CHECKPOINTS of VARIANT of MODEL."""
    chosen = msgspec.to_builtins(named(strategy))
    new = wire.NewTask(model, variant, time.time() + seconds, checkpoints, open=file is None, strategy=chosen)

    async def added(office: Office) -> wire.TaskInfo:
        made = await office.ask(wire.ADD_TASK, new, task=name)
        if file is None:
            return made
        blocks, size = read_blocks(file), file.stat().st_size
        await office.calls.upload(office.address, wire.PUT_TASK_FILE, blocks, length=size, peer=office.peer, task=name)
        return await office.ask(wire.CHANGE_TASK, wire.TaskChange(open=True), task=name)

    _say(run(data, added))


@task.command()
@_name
@data_option
def close(name: str, data: Path) -> None:
    """Let nobody commit to TASK, or hand in for it, any more."""
    _say(run(data, lambda office: office.ask(wire.CHANGE_TASK, wire.TaskChange(open=False), task=name)))


@task.command()
@_name
@click.option("--for", "seconds", type=span, default="1d", show_default=True, help="How long from now: 90s, 15m, 3d.")
@data_option
def reopen(name: str, seconds: float, data: Path) -> None:
    """Open TASK again, or give it another deadline."""
    change = wire.TaskChange(time.time() + seconds, open=True)
    _say(run(data, lambda office: office.ask(wire.CHANGE_TASK, change, task=name)))


@task.command()
@_name
@data_option
def aggregate(name: str, data: Path) -> None:
    """Make one checkpoint of what was handed in for TASK, which is closed, and wait for it."""

    async def done(office: Office) -> wire.TaskInfo:
        cursor = await _newest(office, name)
        await office.ask(wire.AGGREGATE_TASK, task=name)
        await _until_over(office, name, cursor, "aggregating")
        return await office.ask(wire.TASK, task=name)

    told = run(data, done)
    _say(told)
    if told.result:
        click.echo(f"checkpoint {told.model}/{told.variant}/{told.result}")


@task.command()
@_name
@click.argument("dataset")
@click.option(
    "--input", "inputs", multiple=True, default=("features",), show_default=True, help="A tensor that goes in."
)
@click.option("--target", default="target", show_default=True, help="The tensor that is to come out.")
@data_option
def evaluate(name: str, dataset: str, inputs: tuple[str, ...], target: str, data: Path) -> None:
    """Compare the checkpoint that TASK made with those that it was for, on DATASET of this node."""
    asked = wire.Measure(dataset, inputs, target)

    async def done(office: Office) -> wire.Evaluation:
        cursor = await _newest(office, name)
        await office.ask(wire.EVALUATE_TASK, asked, task=name)
        await _until_over(office, name, cursor, "evaluating")
        return await office.ask(wire.TASK_EVALUATION, task=name)

    told = run(data, done)
    if told.result is None:
        raise click.ClickException(told.reason)
    names = sorted(told.result.metrics)
    rows = [
        (each.checkpoint, f"{each.loss:.6g}", *(f"{each.metrics[metric]:.4g}" for metric in names))
        for each in (told.result, *told.others)
    ]
    click.echo(table(("checkpoint", "loss", *names), rows))
    click.echo(f"{told.result.checkpoint} is {'better than all others' if told.improved else 'not the best'}")


@task.command()
@_name
@data_option
def archive(name: str, data: Path) -> None:
    """Put TASK away; what was handed in and not aggregated is forgotten."""
    _say(run(data, lambda office: office.ask(wire.ARCHIVE_TASK, task=name)))


@task.command()
@_name
@data_option
def statistics(name: str, data: Path) -> None:
    """Show how often each client committed to TASK, and handed in."""
    told = run(data, lambda office: office.ask(wire.TASK_STATISTICS, task=name))
    rows = [(each.client, str(each.commitments), str(each.registrations)) for each in told.clients]
    total = ("all", str(told.commitments), str(told.registrations))
    click.echo(table(("client", "committed", "handed in"), [*rows, total]))


@task.command()
@_name
@click.option("--follow", is_flag=True, help="Go on until the task is put away.")
@data_option
def log(name: str, follow: bool, data: Path) -> None:
    """Print what happened to TASK."""

    async def told(office: Office) -> None:
        cursor, wait = 0, 0.0
        while True:
            heard = await office.ask(wire.TASK_EVENTS, query=After(cursor, wait), task=name)
            for event in heard.events:
                click.echo(line(event))
            over = any(event.kind == "archived" for event in heard.events)
            if over or (not heard.events and not follow):
                return
            cursor, wait = heard.after, WAIT if follow else 0.0

    run(data, told)


async def _newest(office: Office, name: str) -> int:
    """The cursor of what happened last to a task."""
    cursor = 0
    while (heard := await office.ask(wire.TASK_EVENTS, query=After(cursor), task=name)).events:
        cursor = heard.after
    return cursor


async def _until_over(office: Office, name: str, cursor: int, state: str) -> None:
    """Wait until the task has come into a state after the cursor, and left it."""
    entered = False
    while True:
        heard = await office.ask(wire.TASK_EVENTS, query=After(cursor, WAIT), task=name)
        for event in heard.events:
            if entered and event.data.get("state", state) != state:
                return
            entered = entered or event.kind == state
        cursor = heard.after


def _say(told: wire.TaskInfo) -> None:
    why = f": {told.reason}" if told.reason else ""
    click.echo(f"{told.task} is {told.state}{why}")
