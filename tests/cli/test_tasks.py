"""What an owner does about models and tasks for devices: with commands, at a node that runs."""

from __future__ import annotations

from asyncio import to_thread
from pathlib import Path

import aiohttp
import click
import numpy as np
import pytest
from click.testing import CliRunner, Result

from grid.cli.node import main
from grid.cli.processes import Daemons
from grid.cli.tasks import span
from tests.grid_of_nodes import plan_of
from tests.node.dialects.test_flea import result

CLIENT = "client-0123456789abcdef"


def grid_node(data: Path, *words: str) -> Result:
    """What a command of a node's owner says."""
    return CliRunner(env={"GRID_DATA": str(data)}).invoke(main, words)


def said(data: Path, *words: str) -> list[str]:
    """The lines of a command that succeeds."""
    told = grid_node(data, *words)
    assert told.exit_code == 0, told.stderr
    return [line.rstrip() for line in told.stdout.splitlines()]


def test_a_span_of_time_is_a_number_and_a_unit() -> None:
    assert [span(text) for text in ("90s", "15m", "12h", "3d")] == [90, 900, 43_200, 259_200]
    with pytest.raises(click.BadParameter):
        span("soon")


def test_a_node_that_does_not_run_is_asked_for_nothing(tmp_path: Path) -> None:
    for words in (("model", "list"), ("task", "list")):
        assert "does not run" in grid_node(tmp_path, *words).stderr


async def hand_in(address: str, values: list[float]) -> None:
    """As a device does."""
    async with aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {CLIENT}"}
        async with http.post(f"{address}/v1/flea/tasks/autumn", headers=headers) as response:
            upload = (await response.json())["uploadTo"]
        async with http.put(upload, data=result(values, task="autumn")) as response:
            assert response.status == 200


@pytest.mark.slow
async def test_a_task_from_its_model_to_its_evaluation(tmp_path: Path) -> None:
    data, tokens, plan = tmp_path / "ann", tmp_path / "tokens", tmp_path / "plan.safetensors"
    tokens.write_text(f"FleaClient {CLIENT}\n")
    plan_of().save(plan)
    rng = np.random.default_rng(0)
    features = rng.normal(size=(64, 3))
    rows = np.hstack([features, features.sum(axis=1, keepdims=True) + 1])
    np.savetxt(tmp_path / "t.csv", rows, delimiter=",", header="a,b,c,target", comments="", fmt="%.8f")
    adding = ("--name", "trial", "--tag", "#t", "--target", "target", "--regression")
    await to_thread(said, data, "dataset", "add", str(tmp_path / "t.csv"), *adding)

    async with Daemons(tmp_path) as daemons:
        words = ["start", "--port=0", f"--data={data}", "--id=ann", "--isolation=prefer", f"--tokens={tokens}"]
        node = await daemons.start("ann", "grid.cli.node", *words)

        def ask(*words: str) -> list[str]:
            return said(data, *words)

        kept = (await to_thread(ask, "model", "add", "lung", "small", "first", str(plan)))[0]
        rules = await to_thread(ask, "model", "allow", "lung", "*", "--commit")
        hosted = await to_thread(ask, "model", "host", "lung", "--no-downloads", "--rows", "8")
        assert hosted == ["may not be downloaded, answers for 8 rows at a time"]
        assert kept.startswith("lung/small/first")
        assert rules[1].split() == ["*", "yes", "yes", "no", "1"]
        assert (await to_thread(ask, "model", "list"))[1].split()[:3] == ["lung", "small", "first"]
        file = ("--for", "1h", "--file", str(tokens))  # any file
        opened = await to_thread(ask, "task", "add", "autumn", "lung", "small", "first", *file)
        assert opened == ["autumn is open"]
        assert (await to_thread(ask, "task", "list"))[1].split()[:4] == ["autumn", "open", "lung/small", "first"]
        await hand_in(node.address, [1, 1, 1, 1])
        assert await to_thread(ask, "task", "close", "autumn") == ["autumn is closed: closed by its owner"]
        assert (await to_thread(grid_node, data, "task", "evaluate", "autumn", "trial")).exit_code == 1
        made = await to_thread(ask, "task", "aggregate", "autumn")
        assert made == ["autumn is aggregated", "checkpoint lung/small/autumn"]
        scores = await to_thread(ask, "task", "evaluate", "autumn", "trial")
        assert [line.split()[0] for line in scores[1:3]] == ["autumn", "first"]
        assert scores[-1] == "autumn is better than all others"
        counted = await to_thread(ask, "task", "statistics", "autumn")
        assert counted[-1].split() == ["all", "1", "1"]
        told = await to_thread(ask, "task", "log", "autumn")
        steps = "registered open committed handed-in closed aggregating aggregated evaluating evaluated"
        assert " ".join(line.split()[1] for line in told) == steps
        assert await to_thread(ask, "task", "archive", "autumn") == ["autumn is archived"]
        assert await to_thread(ask, "model", "unsay", "lung", "*") == ["subject  sees  commits  opens  most"]
        assert await to_thread(ask, "model", "remove", "lung") == ["model lung was removed"]
