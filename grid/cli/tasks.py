"""`grid-node task`: tasks that wait for devices, as whoever opened them looks after them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import click

from grid.cli.desk import Office, data_option
from grid.cli.models import MODEL, VARIANT, run, when
from grid.cli.plainly import Plainly, word
from grid.cli.runs import WAIT, line
from grid.client.tables import table
from grid.wire import flea as wire
from grid.wire.names import Name
from grid.wire.runs import After
from grid.wire.tasks import TASK_EVENTS

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

    async def told(office: Office) -> list[wire.TaskDetails]:
        found: list[wire.TaskDetails] = []
        first = ""
        while True:
            page = await office.ask(wire.TASKS, query=wire.TaskQuery(start_task_id=first, include_inactive=everything))
            names = [name for name in page.task_ids if name != first]
            found += [await office.ask(wire.TASK, task=name) for name in names]
            if len(page.task_ids) < wire.PAGE:
                return found
            first = page.task_ids[-1]

    rows = [
        (
            each.task_id,
            each.state,
            f"{each.model_id}/{each.hyperparameters_id}",
            ", ".join(each.checkpoint_ids),
            when(wire.seconds(each.deadline)),
        )
        for each in run(data, told)
    ]
    click.echo(table(("task", "state", "model", "checkpoints", "until"), rows))


@task.command()
@_name
@click.argument("model", type=MODEL)
@click.argument("variant", type=VARIANT)
@click.argument("checkpoints", nargs=-1, required=True, type=word(Name, "name of a checkpoint"))
@click.option("--for", "seconds", type=span, default="1d", show_default=True, help="How long: 90s, 15m, 12h, 3d.")
@click.option("--link", default="", help="Where the task's file lies.")
@click.option("--aggregation", default="", help="How updates become one.  [default: by their examples]")
@data_option
def add(
    name: str,
    model: str,
    variant: str,
    checkpoints: tuple[str, ...],
    seconds: float,
    link: str,
    aggregation: str,
    data: Path,
) -> None:
    """Open TASK for CHECKPOINTS of VARIANT of MODEL."""
    asked = wire.TaskAsked(
        task_id=name,
        model_id=model,
        hyperparameters_id=variant,
        deadline=time.time() + seconds,
        checkpoint_ids=checkpoints,
        active=True,
        link=link,
        aggregation=aggregation,
    )
    _say(run(data, lambda office: office.ask(wire.CREATE_TASK, asked)))


@task.command()
@_name
@data_option
def close(name: str, data: Path) -> None:
    """Let nobody commit to TASK, or hand in for it, any more."""
    _say(run(data, lambda office: office.ask(wire.CHANGE_TASK, wire.TaskChange(active=False), task=name)))


@task.command()
@_name
@click.option("--for", "seconds", type=span, default="1d", show_default=True, help="How long from now: 90s, 15m, 3d.")
@data_option
def reopen(name: str, seconds: float, data: Path) -> None:
    """Open TASK again, or give it another deadline."""
    change = wire.TaskChange(deadline=time.time() + seconds, active=True)
    _say(run(data, lambda office: office.ask(wire.CHANGE_TASK, change, task=name)))


@task.command()
@_name
@data_option
def aggregate(name: str, data: Path) -> None:
    """Make one checkpoint of what was handed in for TASK, which is closed, and wait for it."""

    async def done(office: Office) -> wire.TaskDetails:
        cursor = await _newest(office, name)
        await office.ask(wire.AGGREGATE, task=name)
        await _until_over(office, name, cursor, "aggregating")
        return await office.ask(wire.TASK, task=name)

    told = run(data, done)
    _say(told)
    if told.aggregated_checkpoint_id:
        click.echo(f"checkpoint {told.model_id}/{told.hyperparameters_id}/{told.aggregated_checkpoint_id}")


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
    asked = wire.EvaluationAsked(dataset, inputs, target)

    async def done(office: Office) -> wire.Evaluation:
        cursor = await _newest(office, name)
        await office.ask(wire.EVALUATE, asked, task=name)
        await _until_over(office, name, cursor, "evaluating")
        return await office.ask(wire.EVALUATION, task=name)

    told = run(data, done)
    if told.aggregated is None:
        raise click.ClickException(told.reason)
    names = sorted(told.aggregated.metrics)
    rows = [
        (each.checkpoint_id, f"{each.loss:.6g}", *(f"{each.metrics[metric]:.4g}" for metric in names))
        for each in (told.aggregated, *told.checkpoints)
    ]
    click.echo(table(("checkpoint", "loss", *names), rows))
    click.echo(f"{told.aggregated.checkpoint_id} is {'better than all others' if told.improved else 'not the best'}")


@task.command()
@_name
@data_option
def archive(name: str, data: Path) -> None:
    """Put TASK away; what was handed in and not aggregated is forgotten."""
    _say(run(data, lambda office: office.ask(wire.ARCHIVE, task=name)))


@task.command()
@_name
@data_option
def statistics(name: str, data: Path) -> None:
    """Show how often each client committed to TASK, and handed in."""
    told = run(data, lambda office: office.ask(wire.TASK_STATISTICS, task=name))
    rows = [(each.client_id, str(each.commitments), str(each.registrations)) for each in told.clients]
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
            heard = await office.ask(TASK_EVENTS, query=After(cursor, wait), task=name)
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
    while (heard := await office.ask(TASK_EVENTS, query=After(cursor), task=name)).events:
        cursor = heard.after
    return cursor


async def _until_over(office: Office, name: str, cursor: int, state: str) -> None:
    """Wait until the task has come into a state after the cursor, and left it."""
    entered = False
    while True:
        heard = await office.ask(TASK_EVENTS, query=After(cursor, WAIT), task=name)
        for event in heard.events:
            if entered and event.data.get("state", state) != state:
                return
            entered = entered or event.kind == state
        cursor = heard.after


def _say(told: wire.TaskDetails) -> None:
    why = f": {told.reason}" if told.reason else ""
    click.echo(f"{told.task_id} is {told.state}{why}")
