"""L6: the fourteen management commands of FLaaS, on a node that runs, with the outputs of its README."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import numpy as np
import pytest
from click.testing import CliRunner

from grid.cli import node as command
from grid.cli.daemon import alone
from grid.crypto.identity import Identity
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from grid.protocol import fleet
from grid.store import fleets
from grid.transport.auth import OWNER
from grid.wire import models as wire
from tests.grid_of_nodes import ANode

StartNode = Callable[..., Awaitable[ANode]]

LONG_AGO = 1_636_125_914.761
"""05/11/2021 15:25:14.761 UTC."""


def run(data: Path, *words: str, fails: str = "") -> str:
    result = CliRunner(env={"GRID_DATA": str(data)}).invoke(command.main, ["flaas", *words])
    assert (result.exit_code, result.stderr) == (bool(fails), f"error: {fails}\n" if fails else ""), result.output
    return result.stdout


class Grid:
    """A node that runs as a daemon does, its commands, and phones that speak to it."""

    def __init__(self, node: ANode, http: aiohttp.ClientSession) -> None:
        self.node, self.http, self.tokens = node, http, dict[str, str]()

    async def __call__(self, *words: str, fails: str = "") -> str:
        return await asyncio.to_thread(run, self.node.folder, *words, fails=fails)

    async def ask(self, who: str, call: str, body: object = None) -> bytes:
        method, path = call.split(" ")
        kind = "data" if isinstance(body, bytes) else "json"
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        url = f"{self.node.address}/api/{path}"
        async with self.http.request(method, url, headers=headers, **{kind: body}) as response:
            raw = await response.read()
            assert response.status < 300, raw
            return raw

    async def phones(self, printed: str) -> list[str]:
        for line in printed.splitlines()[1:]:
            name, password, _ = line.split(", ")
            pair = json.loads(await self.ask("", "POST token/", {"username": name, "password": password}))
            self.tokens[name] = pair["access"]
        return sorted(self.tokens)

    async def project(self, **terms: object) -> int:
        models = self.node.open.parts.flea.models
        layout = Layout([TensorSpec("w", "F32", (2,))])

        async def blocks() -> AsyncIterator[bytes]:
            yield header_bytes(layout) + bytes(8)

        await models.put_model(OWNER, "tiny", wire.NewModel())
        await models.put_variant(OWNER, "tiny", "plain", wire.NewVariant())
        await models.put_checkpoint(OWNER, "tiny", "plain", "first", blocks())
        asked = {"model": "tiny", "status": "In Progress", "power_plugged_only": False, **terms}
        return (await self.node.open.parts.flaas.fleets.create(OWNER, asked)).id

    async def ping(self, name: str, plugged: bool = True) -> None:
        info = {
            "app_details": {"version_code": 12},
            "usage_stats_details": {"app_standby_bucket": 30},
            "battery_status": {"level": 1.0, "power_plugged": plugged},
        }
        await self.ask(name, "POST report-availability", {"request_type": "device-ping", "device_info": info})

    async def train(self, name: str, project: int, number: int, results: object) -> None:
        await self.ask(name, f"GET project/{project}/join-round/{number}")
        await self.ask(
            name, f"POST project/{project}/submit-model/{number}/model_weights.bin", np.ones(2, "<f4").tobytes()
        )
        await self.ask(name, f"POST project/{project}/submit-results/{number}/performance.json", results)

    async def until(self, project: int, number: int, state: fleet.Stage) -> None:
        rounds = self.node.open.parts.flaas.rounds
        async with asyncio.timeout(20):
            while True:
                await rounds.tick()
                found = await rounds._db.read(lambda c: fleets.rounds(c, project))
                if len(found) > number and found[number].turn.state == state:
                    return


@pytest.fixture
async def grid(start_node: StartNode, connections: aiohttp.ClientSession, tmp_path: Path) -> AsyncIterator[Grid]:
    owner = Identity.load_or_create(tmp_path / "node" / "owner.key")
    node = await start_node("node", data=False, owners=(owner.id,))
    with alone(node.folder) as post:
        post.announce(node.address)
        yield Grid(node, connections)


def test_l6_accounts_are_made_by_a_node_that_does_not_run_too(tmp_path: Path) -> None:
    printed = run(tmp_path, "createusers", "5", "--prefix", "test_user")

    lines = printed.splitlines()
    assert lines[0] == "username, password, samples_index"
    assert [re.sub(r", \w{16},", ", PASSWORD,", line) for line in lines[1:]] == [
        f"test_user{number}, PASSWORD, {number - 1}" for number in range(1, 6)
    ]
    assert len({line.split(", ")[1] for line in lines[1:]}) == 5
    one = run(tmp_path, "create-single-user", "ada", "17", "--length", "20").splitlines()
    assert [one[0], one[1], one[3]] == [
        "Created account with the following details:",
        "Username: ada",
        "Samples Index: 17",
    ]
    assert re.fullmatch(r"Password: \w{20}", one[2])
    run(tmp_path, "create-single-user", "eve", "17", fails="the samples of index 17 are another device's")
    run(tmp_path, "assign", "1", fails="there is no project 1 that you may see")
    run(tmp_path, "tick", fails=f"the node of {tmp_path} does not run; start it with `grid-node start`")


async def test_l6_reports_of_devices(grid: Grid) -> None:
    names = await grid.phones(await grid("createusers", "4", "--prefix", "test_user"))
    project = await grid.project(title="Project 1")
    assert (
        await grid("assign", "1", "--prefix", "test_user") == "4 user(s) assigned succesfully to project 'Project 1'\n"
    )
    await grid("assign", "1", "--prefix", "nobody", fails="no device's name begins with 'nobody'")

    now = grid.node.open.parts.flaas.fleets
    for seconds, name, plugged in ((0, names[0], False), (60, names[0], True), (120, names[1], True)):
        now.now = lambda seconds=seconds: time.time() - 600 + seconds
        await grid.ping(name, plugged)
    clock = r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\.\d{3}"

    assert await grid("countresponses") == "username, responses\n" + "".join(
        f"test_user{number}, {count}\n" for number, count in ((1, 2), (2, 1), (3, 0), (4, 0))
    )
    assert await grid("countresponses", "test_user1", "--plugged-only") == "username, responses\ntest_user1, 1\n"
    await grid("countresponses", "nobody", fails="there is no device nobody")
    told = await grid("projectresponses", str(project), "--show-details")
    assert re.sub(clock, "CLOCK", told) == (
        "Project responses: 2/4 (ratio: 0.50)\n"
        "    test_user1 - last_reponse: CLOCK - version_code: 12 - bucket: 30 - power_plugged: True - battery: 1.00\n"
        "    test_user2 - last_reponse: CLOCK - version_code: 12 - bucket: 30 - power_plugged: True - battery: 1.00\n"
    )
    assert await grid("projectresponses", "1", "--past-minutes", "9") == "Project responses: 1/4 (ratio: 0.25)\n"
    told = await grid("responses-per-user")
    assert re.sub(clock, "CLOCK", told) == (
        "Filtered Device Status Responses of user 'test_user1':\n"
        "    CLOCK - version_code: 12 - bucket: 30 - power_plugged: True - battery: 1.00\n"
        "    CLOCK - version_code: 12 - bucket: 30 - power_plugged: False - battery: 1.00\n\n"
        "Filtered Device Status Responses of user 'test_user2':\n"
        "    CLOCK - version_code: 12 - bucket: 30 - power_plugged: True - battery: 1.00\n\n"
    )


async def test_l6_what_devices_reported_between_two_days_becomes_a_file(grid: Grid, tmp_path: Path) -> None:
    (name,) = await grid.phones(await grid("createusers", "1"))
    grid.node.open.parts.flaas.fleets.now = lambda: LONG_AGO
    await grid.ping(name)
    file = tmp_path / "responses.json"

    await grid("extract-device-status-responses", "2021-11-05", "2021-11-06", str(file))
    assert json.loads(file.read_text()) == [{"timestamp": "2021-11-05T15:25:14", "username": "user1"}]
    await grid("extract-device-status-responses", "2021-11-06", "2021-11-07", str(file))
    assert json.loads(file.read_text()) == []


async def test_l6_reports_of_rounds(grid: Grid, tmp_path: Path) -> None:
    names = await grid.phones(await grid("createusers", "4", "--prefix", "test_user"))
    project = await grid.project(title="Test Baseline IID", number_of_rounds=20, responses_ratio_threshold=0.75)
    await grid("assign", "1", "--prefix", "test_user")
    await grid("performance", "1", fails="no round of project 1 is complete yet")
    for name in names[:3]:
        await grid.ping(name)
    for number, results in enumerate(({"epochs": [1.0, 0.5]}, {"Red": {"epochs": [0.2]}, "Blue": {"epochs": [0.4]}})):
        await grid.until(project, number, fleet.COLLECTING)
        for name in names[:3]:
            await grid.train(name, project, number, {"local_training_worker": results})
    await grid.until(project, 2, fleet.COLLECTING)
    await grid.ask(names[0], f"GET project/{project}/join-round/2")

    joined = "['test_user1', 'test_user2', 'test_user3']"
    assert await grid("roundstats", "1") == (
        "round, status, joined_devices_ratio, usernames\n"
        f"0, complete, 0.75, {joined}\n"
        f"1, complete, 0.75, {joined}\n"
        "2, training, 0.25, ['test_user1']\n"
    )
    assert await grid("joinedrounds", "1") == "username, joined_rounds\ntest_user1, 3\ntest_user2, 2\ntest_user3, 2\n"
    assert await grid("performance", "1", "--round", "1") == (
        "Project: Test Baseline IID\n"
        "Rounds completed: 2/20 (plus 0 invalid)\n"
        "Round 1 Test Accuracy: TBD\n"
        "Round 1 Loss: 0.30 (0.00)\n"
    )
    assert "last completed round '1'" in await grid("performance", "1")
    assert await grid("performance_multirounds", "1") == (
        "Project: Test Baseline IID\n"
        "Rounds completed: 2/20 (plus 0 invalid)\n"
        "round, test_accuracy, loss_mean, loss_sd\n"
        "0, TBD, 0.50, 0.00\n"
        "1, TBD, 0.30, 0.00\n"
    )
    assert len((await grid("performance_multirounds", "1", "--from", "1")).splitlines()) == 4
    await grid("performance", "1", "--round", "9", fails="project 1 has no round 9")
    started = await grid("extract-projects-start")
    clock = r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d\.\d{3}"
    assert re.fullmatch(rf"Project 1 \(Test Baseline IID\) \t Begin: {clock} \t End: {clock}\n", started)
    file = tmp_path / "train.json"
    for kind, last in (("available", 3), ("joined", 1), ("replied", 0)):
        await grid("extract-train-responses", "1", str(file), "--type", kind)
        rows = json.loads(file.read_text())
        assert [len(row) for row in rows] == [3, 3, last]
        assert rows[0][1] == {"username": "test_user2", "samples_index": 1}
    said = (await grid("tick")).splitlines()
    assert said[:2] == ["Found 1 available projects.", "Project '1. Test Baseline IID':"]
    assert said[2].startswith("Waiting for 59 more minutes. Current Ratio is 0.00 (0 out of 4).")
