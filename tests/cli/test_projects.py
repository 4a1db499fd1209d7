"""What an owner does about projects: described in a file, joined, run, and read; through commands and real daemons."""

from __future__ import annotations

import re
from asyncio import to_thread
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from grid.cli.desk import open_office
from grid.cli.node import main
from grid.cli.processes import Daemon, Daemons
from grid.cli.projects import lines, read_file
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.learning.questions import Evaluate, Moments
from grid.learning.strategy import Strategy, read_strategy
from grid.learning.study import Study
from grid.protocol.documents import read_document, sign_document
from grid.wire import projects as wire
from grid.wire.problems import ProjectRefused
from grid.wire.runs import RUN_TASK, TASK, Task

ANN = Identity.from_seed(b"a" * 32)
DESCRIBED = """
name = "survival"
about = "Who lives longer"

[[tasks]]
name = "warm-up"
plan = "plan.safetensors"
tags = ["#pulse"]
holdout = 0.0

[[tasks]]
plan = "plan.safetensors"
tags = ["#pulse"]
rounds = 2
quorum = { minimum = 3 }
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A described project, its plan beside it."""
    Plan.linear(3, 1, loss="mse", epochs=1).save(tmp_path / "plan.safetensors")
    (tmp_path / "survival.toml").write_text(DESCRIBED)
    return tmp_path / "survival.toml"


def test_a_project_is_described_in_a_file(file: Path) -> None:
    name, about, tasks = read_file(file)

    assert (name, about) == ("survival", "Who lives longer")
    assert [(task.name, task.continues) for _, task in tasks] == [("warm-up", True), ("train", True)]
    assert tasks[1][1].parameters == {"tags": ["#pulse"], "rounds": 2, "quorum": {"minimum": 3}}
    assert all(plan.digest == task.plan for plan, task in tasks)


def test_a_task_may_be_a_question(file: Path) -> None:
    words = 'question = { name = "moments", columns = ["age", "dose"] }'
    file.write_text(DESCRIBED.replace('plan = "plan.safetensors"', words, 1))

    _, _, ((study, task), _) = read_file(file)

    assert isinstance(study, Study)
    assert (study.question, task.plan) == (Moments(("age", "dose")), study.digest)
    assert (task.parameters["rounds"], task.parameters["holdout"]) == (2, 0.0)
    assert read_strategy(task.parameters["strategy"]).analyses


def test_a_task_may_be_how_a_plan_does(file: Path) -> None:
    described = DESCRIBED.replace('plan = "plan.safetensors"', 'evaluate = "plan.safetensors"\nseed = 4')
    file.write_text(described.replace("holdout = 0.0", "holdout = 0.25", 1))

    _, _, ((study, task), _) = read_file(file)

    assert isinstance(study, Study)
    assert study.question == Evaluate((), 0.25, 4)
    assert (task.parameters["rounds"], task.parameters["holdout"]) == (1, 0.0)


@pytest.mark.parametrize("text", ["", "name = 3", 'name = "x"\ntasks = 3', DESCRIBED.replace("plan =", "plans ="), "["])
def test_what_is_no_description_is_refused(file: Path, text: str) -> None:
    file.write_text(text)

    with pytest.raises(ProjectRefused, match=re.escape(str(file))):
        read_file(file)


def test_a_project_is_shown_with_its_sites_and_runs() -> None:
    project = wire.Project("p" * 24, "survival", ANN.id, 0.0, (wire.ProjectTask("d" * 64, {"rounds": 2}),), "long")
    info = wire.ProjectInfo(
        sign_document(ANN, wire.PROJECT, project),
        "coordinator",
        (wire.ProjectMember("k" * 43, "joined", "eve"), wire.ProjectMember("m" * 43, "invited")),
        (wire.Batch(1, "failed", 1, 0.0, "nobody came", (wire.ProjectRun(1, "r" * 24, "failed"),)),),
    )

    assert lines(info) == [
        "survival  long",
        f"coordinator  {ANN.id}",
        "task 1  train  plan dddddddddddd  rounds 2",
        f"site  {'k' * 43}  joined  eve",
        f"site  {'m' * 43}  invited",
        "batch 1  failed  task 1  nobody came",
        f"  task 1  run {'r' * 24}  failed",
    ]


def test_a_node_that_does_not_run_has_no_projects_to_tell_of(tmp_path: Path) -> None:
    refused = grid_node(tmp_path, "project", "list")

    assert refused.exit_code == 1
    assert "does not run" in refused.stderr


# --- three real nodes -----------------------------------------------------------------------------


def grid_node(data: Path, *words: str) -> Result:
    """What a command of a node's owner says."""
    return CliRunner(env={"GRID_DATA": str(data)}).invoke(main, words)


def said(data: Path, *words: str) -> str:
    """As `grid_node`, of a command that succeeds."""
    result = grid_node(data, *words)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def stock(data: Path) -> str:
    """A node's key, once it has data."""
    rows = "".join(f"{n % 5},{n % 7},{n % 3},{(n % 5) + (n % 7)}\n" for n in range(40))
    (data.parent / "pulse.csv").write_text("a,b,c,target\n" + rows)
    csv = str(data.parent / "pulse.csv")
    said(data, "dataset", "add", csv, "--name", "pulse", "--tag", "#pulse", "--target", "target", "--regression")
    return re.findall(r"public key +(\S+)", said(data, "id"))[0]


async def strategies(data: Path, project: str) -> list[Strategy]:
    """Of a project's runs, as their tasks were signed."""
    async with open_office(data) as office:
        batches = (await office.ask(wire.PROJECT_INFO, project=project)).batches
        signed = [await office.ask(RUN_TASK, run=run.run) for batch in batches for run in batch.runs]
        return [read_strategy(read_document(each, Task, TASK).strategy) for each in signed]


async def runs(data: Path, project: str) -> list[tuple[int, str]]:
    """Which task each of the newest batch's runs is of, and its state."""
    async with open_office(data) as office:
        batches = (await office.ask(wire.PROJECT_INFO, project=project)).batches
        return [(run.task, run.state) for run in batches[-1].runs]


@pytest.mark.slow
@pytest.mark.parametrize("inbound", [True, False], ids=["reached directly", "without inbound ports"])
async def test_three_nodes_run_a_project_of_two_tasks_twice(tmp_path: Path, file: Path, inbound: bool) -> None:
    """The coordinator takes part itself; in the second batch a participant is killed, and comes back."""
    folders = [tmp_path / name for name in ("lead", "one", "two")]
    keys = [await to_thread(stock, folder) for folder in folders]
    for folder in folders:
        await to_thread(said, folder, "peer", "trust", keys[0])
    async with Daemons(tmp_path) as daemons:
        gateway = await daemons.start("gateway", "grid.cli.gateway", "start", "--port=0", f"--data={tmp_path / 'g'}")
        listens = [] if inbound else ["--no-listen", f"--gateway={gateway.address}"]

        async def start(folder: Path, name: str, port: str = "0") -> Daemon:
            words = ["start", f"--port={port}", f"--data={folder}", f"--id={folder.name}", "--isolation=prefer"]
            return await daemons.start(name, "grid.cli.node", *words, *listens)

        started = [await start(folder, folder.name) for folder in folders]
        members = [word for key in keys for word in ("--member", key)]
        made = await to_thread(said, folders[0], "project", "create", str(file), *members)
        project = re.findall(r"project +(\S+)", made)[0]
        for folder in folders:
            joined = ("project", "join", project, started[0].address, "--key", keys[0])
            assert "takes part in survival" in await to_thread(said, folder, *joined)
        for batch in ("batch 1", "batch 2"):
            assert f"{batch}  running" in await to_thread(said, folders[0], "project", "start", project)
            if batch == "batch 2":
                while (await runs(folders[0], project))[-1] not in {(2, "running"), (2, "success")}:
                    await to_thread(lambda: None)
                started[1].kill()
                await started[1].ended()
                await start(folders[1], "one again", started[1].address.rpartition(":")[2] if inbound else "0")
            told = await to_thread(said, folders[0], "project", "log", project, "--follow")
            assert told.count("state success") == int(batch[-1]), told
        shown = await to_thread(said, folders[0], "project", "show", project)
        learned = str(tmp_path / "learned")
        first, report = ("--task", "1", "--batch", "1"), tmp_path / "report.html"
        words = (*first, "--out", learned, "--report", str(report))
        assert f"report -> {report}" in await to_thread(said, folders[0], "project", "get", project, *words)
        assert re.search(r"run \w+  success", shown)[0].split()[1] in report.read_text()
        assert Plan.load(learned).initial != Plan.load(tmp_path / "plan.safetensors").initial
        assert "participant  survival" in await to_thread(said, folders[1], "project", "list")
        assert [strategy.masked for strategy in await strategies(folders[0], project)] == [True] * 4

    assert shown.count("joined") == 3
    assert len(re.findall(r"run \w+  success", shown)) == 4
