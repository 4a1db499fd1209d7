"""A node with a task for devices is killed at each named point; every update that it acknowledged is summed once."""

from __future__ import annotations

import asyncio
import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from grid import faults
from grid.learning.tensors import header_bytes
from tests.grid_of_nodes import plan_of, pool
from tests.killing import Daemon, kept

CLIENTS = 12
WRITER, MAKER = "writer-0123456789abcdef", "maker-0123456789abcdef"
FAULTS = dict(zip(faults.TASK, (6, 6, 6, 1, 1), strict=True))
"""Of twelve updates the sixth as it comes in; the sum."""


def token(number: int) -> str:
    return f"client-{number:04}-0123456789abcdef"


def tokens(folder: Path, clients: int) -> str:
    """The file of tokens of so many clients."""
    lines = [f"FleaClient {token(number)}" for number in range(clients)]
    (folder / "tokens").write_text("\n".join([*lines, f"FleaTaskGen {MAKER}", f"ModelsWriter {WRITER}"]))
    return str(folder / "tokens")


def result(number: int) -> bytes:
    """A client's result: of the first twelve, the numbers of one are twice those of the one before, so that a sum tells
    who is in it."""
    values = np.full(4, 2.0 ** (number % CLIENTS), np.float32)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        report = {"taskId": "t", "numSamples": 1, "taskParameters": {}, "deviceInfo": {}}
        archive.writestr("result.json", json.dumps(report))
        archive.writestr("model.safetensors", header_bytes(plan_of().layout) + values.tobytes())
    return target.getvalue()


class Clients:
    """Those of one node, which go on where they were when it is there again."""

    def __init__(self, node: Daemon, http: aiohttp.ClientSession) -> None:
        self.node, self.http = node, http

    async def ask(self, who: str, call: str, body: Any = None, ok: tuple[int, ...] = ()) -> Any:
        """What `who` is answered; asked again after a death of the node. Of a refusal in `ok`, its status."""
        method, path = call.split(" ")
        headers = {"Authorization": f"Bearer {who}"} if who else {}
        sent = {"data" if isinstance(body, bytes) else "json": body}
        while True:
            try:
                async with self.http.request(method, self.node.address + path, headers=headers, **sent) as response:
                    told = await response.json(content_type=None)
                    if response.status in ok:
                        return response.status
                    assert response.status < 400, told
                    return told
            except (aiohttp.ClientError, ConnectionError):
                await self.node.died.wait()
                await self.node.up.wait()

    async def opened(self) -> None:
        """A model with a checkpoint, and an open task for it."""
        where = "/v1/models/lung/variants/small"
        await self.ask(WRITER, "PUT /v1/models/lung", {})
        await self.ask(WRITER, f"PUT {where}", {})
        await self.ask(WRITER, f"PUT {where}/checkpoints/c1/file", plan_of().bundle())
        await self.ask(WRITER, "PUT /v1/models/lung/access/*", {"commits": True, "opens": True})
        task = {"taskId": "t", "modelId": "lung", "hyperparametersId": "small", "checkpointId": "c1"}
        await self.ask(MAKER, "POST /v1/flea/create_task", {**task, "deadline": time.time() + 600, "active": True})

    async def work(self, number: int) -> None:
        """Commit, and hand in until it is acknowledged: that it was used says that it was."""
        path = (await self.ask(token(number), "POST /v1/flea/tasks/t"))["uploadTo"].removeprefix(self.node.address)
        while await self.ask("", f"PUT {path}", result(number), (403, 409)) == 403:  # a commit that was sent twice
            path = (await self.ask(token(number), "POST /v1/flea/tasks/t"))["uploadTo"].removeprefix(self.node.address)

    async def summed(self) -> dict[str, Any]:
        """The task, once it is aggregated."""
        await self.ask(MAKER, "PUT /v1/flea/tasks/t", {"active": False})
        await self.ask(MAKER, "POST /v1/flea/tasks/t/aggregate", None, (409,))  # its answer may have been lost
        cursor = 0
        while True:
            heard = await self.ask(MAKER, f"GET /v1/tasks/t/events?after={cursor}&wait=20")
            cursor = heard["after"]
            if any(event["kind"] == "aggregated" for event in heard["events"]):
                return dict(await self.ask(MAKER, "GET /v1/flea/tasks/t"))


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("fault", ["", *(f"{point}:{count}" for point, count in FAULTS.items())])
async def test_every_acknowledged_update_is_summed_once(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRID_TOKENS", tokens(tmp_path, CLIENTS))
    node = Daemon("ann", tmp_path / "ann", fault)

    async with kept([node]), pool() as http:
        fleet = Clients(node, http)
        await fleet.opened()
        await asyncio.gather(*(fleet.work(number) for number in range(CLIENTS)))
        task = await fleet.summed()
        told = await fleet.ask(MAKER, "GET /v1/flea/tasks/t/statistics")

    (checkpoint,) = [path for path in (node.data / "models").glob("??/??/*") if path.read_bytes() != plan_of().bundle()]
    model = np.frombuffer(checkpoint.read_bytes()[-16:], np.float32)
    np.testing.assert_allclose(model * CLIENTS, np.full(4, 2.0**CLIENTS - 1), rtol=1e-6)
    assert task["aggregatedCheckpointId"] == "t"
    assert (told["commitments"], told["registrations"]) == (CLIENTS, CLIENTS)
    assert node.deaths == (1 if fault else 0)
    assert not list((node.data / "tasks" / "named").glob("update-*"))


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_of_a_thousand_uploads_at_once_each_that_was_acknowledged_is_summed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crowd = 1000
    monkeypatch.setenv("GRID_TOKENS", tokens(tmp_path, crowd))
    node = Daemon("ann", tmp_path / "ann", "after-task-row:500")

    async with kept([node]), pool() as http:
        fleet = Clients(node, http)
        await fleet.opened()
        await asyncio.gather(*(fleet.work(number) for number in range(crowd)))
        await fleet.summed()
        told = await fleet.ask(MAKER, "GET /v1/flea/tasks/t/statistics")
        made = await fleet.ask(MAKER, "GET /v1/repository/models/lung/hyperparameters/small/checkpoints/t")

    assert node.deaths == 1
    assert (told["commitments"], told["registrations"]) == (crowd, crowd)
    assert made["info"] == {"task": "t", "updates": str(crowd), "examples": str(crowd)}
