"""`grid-node project`: tasks that several sites carry out together, one after the other, as often as wanted."""

from __future__ import annotations

import asyncio
import time
import tomllib
from pathlib import Path
from typing import Any

import click
import msgspec

from grid.cli.desk import Office, data_option, open_office
from grid.cli.history import page
from grid.cli.plainly import Plainly, word
from grid.cli.runs import line
from grid.client.bundles import hand_in_plan
from grid.client.display import Rounds
from grid.client.grid import Remote
from grid.client.projects import AsyncProject
from grid.crypto.encoding import b64
from grid.learning.plan import Plan
from grid.learning.study import Study, read_words
from grid.protocol.documents import read_document
from grid.wire import projects as wire
from grid.wire.names import Address, PublicKey
from grid.wire.node import TRUSTED
from grid.wire.problems import ProjectRefused

PROJECT = word(wire.ProjectId, "id of a project, as `grid-node project list` shows it")
KEY = word(PublicKey, "key (43 letters, as `grid-node id` prints it)")
URL = word(Address, "url (http://HOST:PORT)")


@click.group(cls=Plainly)
def project() -> None:
    """Projects: ordered tasks that sites carry out together. The site that makes one coordinates it."""


# --- at the coordinator -------------------------------------------------------------------------------


@project.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--member", "members", type=KEY, multiple=True, help="The key of a site that may join; may be repeated.")
@click.option("--open/--no-open", "is_open", default=False, help="Let every site join that knows the project's id.")
@data_option
def create(file: Path, members: tuple[str, ...], is_open: bool, data: Path) -> None:
    """Make the project that FILE describes: TOML with `name`, `about` and, for each task, a table [[tasks]].

    A task has a `plan` (a file, as `grid plan` writes it), or one to `evaluate` (with what the task before has
    learned), or a `question` such as { name = "moments", columns = ["age"] }; a `name`, `continues` (false: not from
    what the task before has learned) and the parameters of a task, such as tags, rounds, deadline and quorum.
    """
    asyncio.run(_create(file, members, is_open, data))


async def _create(file: Path, members: tuple[str, ...], is_open: bool, data: Path) -> None:
    name, about, tasks = read_file(file)
    async with open_office(data) as office:
        for plan in {plan.digest: plan for plan, _ in tasks}.values():
            await hand_in_plan(office.calls, office.owner, office.address, office.peer, plan, time.time())
        asked = wire.CreateProject(name, tuple(task for _, task in tasks), about, is_open, members)
        made = read(await office.ask(wire.CREATE_PROJECT, asked))
    click.echo(f"project       {made.project}")
    click.echo(f"coordinator   {made.coordinator}")


def read_file(file: Path) -> tuple[str, str, list[tuple[Plan | Study, wire.ProjectTask]]]:
    """A project's name, description and tasks, each with its plan. Raises ProjectRefused."""
    try:
        said = tomllib.loads(file.read_text())
        tasks = [_task(file, dict(task)) for task in said["tasks"]]
        return str(said["name"]), str(said.get("about", "")), tasks
    except (tomllib.TOMLDecodeError, KeyError, TypeError, msgspec.ValidationError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise ProjectRefused(f"{file}: {why}") from None


def _task(file: Path, said: dict[str, Any]) -> tuple[Plan | Study, wire.ProjectTask]:
    plan: Plan | Study
    if "question" in said or "evaluate" in said:
        plan = _study(file, said)
        said = {**plan.parameters, **said}
    else:
        plan = Plan.load(file.parent / said.pop("plan"))
    own: dict[str, Any] = {each: said.pop(each) for each in ("name", "continues") if each in said}
    return plan, msgspec.convert({**own, "plan": plan.digest, "parameters": said}, wire.ProjectTask)


def _study(file: Path, said: dict[str, Any]) -> Study:
    if "question" in said:
        return Study(read_words(said.pop("question")))
    plan, seed = Plan.load(file.parent / said.pop("evaluate")), said.pop("seed", 0)
    return Study.of(plan, said.pop("holdout", 0.0), seed)


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@click.argument("key", type=KEY)
@data_option
def admit(which: str, key: str, data: Path) -> None:
    """Let the site that holds KEY join PROJECT."""
    asyncio.run(_say(data, wire.ADMIT, wire.Admit(key), which))
    click.echo(f"{key} may join")


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@data_option
def start(which: str, data: Path) -> None:
    """Run all tasks of PROJECT, in order: a new batch."""
    asyncio.run(_say(data, wire.START_PROJECT, None, which))


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@data_option
def stop(which: str, data: Path) -> None:
    """Stop the batch of PROJECT that goes on. What was learned stays."""
    asyncio.run(_say(data, wire.STOP_PROJECT, None, which))


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@data_option
def restart(which: str, data: Path) -> None:
    """Go on with PROJECT at the first task that did not succeed; if all did, begin a new batch."""
    asyncio.run(_say(data, wire.RESTART_PROJECT, None, which))


async def _say(data: Path, endpoint: Any, message: Any, which: str) -> None:
    async with open_office(data) as office:
        info = await office.ask(endpoint, message, project=which)
    for batch in getattr(info, "batches", ())[-1:]:
        click.echo(batch_line(batch))


# --- at a site that joins --------------------------------------------------------------------------------


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@click.argument("coordinator", type=URL)
@click.option("--key", type=KEY, required=True, help="The coordinator's key, told to you by its owner.")
@data_option
def join(which: str, coordinator: str, key: str, data: Path) -> None:
    """Have this node take part in PROJECT, whose coordinator answers at the address COORDINATOR.

    This alone lets nobody train here: that is what `grid-node peer trust` is for.
    """
    asyncio.run(_join(which, coordinator, key, data))


async def _join(which: str, coordinator: str, key: str, data: Path) -> None:
    async with open_office(data) as office:
        joined = read(await office.ask(wire.JOIN_PROJECT, wire.JoinProject(which, coordinator, key)))
        trusted = {who.public_key for who in (await office.ask(TRUSTED)).trusted}
    click.echo(f"takes part in {joined.name}")
    if key not in trusted:
        click.echo(f"its coordinator may not train here yet; if it shall: grid-node peer trust {key}")


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@data_option
def leave(which: str, data: Path) -> None:
    """Have this node take part in PROJECT no longer."""

    async def run() -> None:
        async with open_office(data) as office:
            await office.ask(wire.LEAVE_PROJECT, project=which)

    asyncio.run(run())


# --- at both ------------------------------------------------------------------------------------------------


@project.command(name="list")
@data_option
def list_projects(data: Path) -> None:
    """List the projects that this node coordinates and those that it joined, newest first."""

    async def run() -> None:
        async with open_office(data) as office:
            for info in (await office.ask(wire.PROJECTS)).projects:
                said = read(info)
                at = f"  at {info.coordinator_address}" if info.coordinator_address else ""
                click.echo(f"{said.project}  {info.role:<11}  {said.name}{at}")

    asyncio.run(run())


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@data_option
def show(which: str, data: Path) -> None:
    """Print what PROJECT is, who takes part, and how its batches went."""

    async def run() -> None:
        async with open_office(data) as office:
            for told in lines(await office.ask(wire.PROJECT_INFO, project=which)):
                click.echo(told)

    asyncio.run(run())


def lines(info: wire.ProjectInfo) -> list[str]:
    """A project as people read it."""
    said = read(info)
    told = [f"{said.name}  {said.about}".rstrip(), f"coordinator  {said.coordinator}"]
    for number, task in enumerate(said.tasks, 1):
        parameters = "  ".join(f"{word} {value}" for word, value in task.parameters.items())
        told.append(f"task {number}  {task.name}  plan {task.plan[:12]}  {parameters}")
    told += [f"site  {member.public_key}  {member.state}  {member.node_id}".rstrip() for member in info.members]
    for batch in info.batches:
        told.append(batch_line(batch))
        told += [f"  task {run.task}  run {run.run}  {run.state}".rstrip() for run in batch.runs]
    return told


def batch_line(batch: wire.Batch) -> str:
    """A batch as people read it."""
    return f"batch {batch.number}  {batch.state}  task {batch.task}  {batch.reason}".rstrip()


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@click.option("--follow", is_flag=True, help="Go on until the batch that goes on is over.")
@data_option
def log(which: str, follow: bool, data: Path) -> None:
    """Print what happened in PROJECT, which this node coordinates."""
    asyncio.run(_log(which, follow, data))


async def _log(which: str, follow: bool, data: Path) -> None:
    async with open_office(data) as office:
        async for event in (await _project(office, which)).watch(follow=follow):
            click.echo(line(event))


@project.command()
@click.argument("which", metavar="PROJECT", type=PROJECT)
@click.option("--task", type=click.IntRange(min=1), help="Whose; the last one that was run.")
@click.option("--batch", type=click.IntRange(min=1), help="In which batch; the newest.")
@click.option("--round", "number", type=click.IntRange(min=1), help="After which round; the newest.")
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), default=Path("learned.safetensors"))
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with its curves, too.")
@data_option
def get(
    which: str,
    task: int | None,
    batch: int | None,
    number: int | None,
    out: Path,
    report: Path | None,
    data: Path,
) -> None:
    """Fetch what a task of PROJECT, which this node coordinates, has learned or answered, to a file."""

    async def fetched() -> Path:
        async with open_office(data) as office:
            run = await (await _project(office, which)).run(task or 0, batch or 0)
            if report is not None:
                history = await run.catch_up()
                rounds = Rounds(history.lines(), history.best(run.task.stop))
                report.write_text(page(await run.info(), rounds, time.time()), encoding="utf-8")
            learned: Plan | Study = await run.checkpoint(number or 0)
            return learned.save(out)

    click.echo(f"{asyncio.run(fetched())}")
    if report is not None:
        click.echo(f"report -> {report}")


async def _project(office: Office, which: str) -> AsyncProject:
    info = await office.ask(wire.PROJECT_INFO, project=which)
    return AsyncProject(office.calls, office.owner, Remote(office.address, b64(office.peer)), info, time.time)


def read(info: wire.ProjectInfo) -> wire.Project:
    """What the coordinator signed."""
    return read_document(info.project, wire.Project, wire.PROJECT)
