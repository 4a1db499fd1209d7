"""A node is killed while devices hand in for a round; they go on when it is there again, and each counts once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from grid import faults
from grid.device import Device
from grid.device.tensors import Model, read
from grid.learning.tensors import Layout, TensorSpec, header_bytes
from tests.grid_of_nodes import pool
from tests.killing import Daemon, kept

DEVICES = 12
OWNER = "writer-0123456789abcdef"
LAYOUT = Layout([TensorSpec("w", "F32", (4,))])
FAULTS = dict(zip(faults.TASK, (6, 6, 6, 1, 1), strict=True))


class Fleet:
    """Devices of one node, which ask again when it is up again."""

    def __init__(self, node: Daemon, http: aiohttp.ClientSession) -> None:
        self.node, self.http = node, http

    async def ask(self, method: str, path: str, body: Sequence[bytes] = (), who: str = "") -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {who}"} if who else {})
        try:
            url, data = self.node.address + path, b"".join(body)
            async with self.http.request(method, url, data=data, headers=headers) as answer:
                return answer.status, await answer.read()
        except aiohttp.ClientError as error:
            raise ConnectionError(str(error)) from None

    async def back(self, _: float) -> None:
        """In place of a pause: a node that died will be there again."""
        await self.node.died.wait()
        await self.node.up.wait()

    async def checkpoint(self, number: int) -> Model:
        """A checkpoint, once it is there."""
        path = f"/model-centric/retrieve-model?name=w&version=1&checkpoint={number}"
        while True:
            try:
                status, file = await self.ask("GET", path, (), OWNER)
            except OSError:
                await self.back(0)
                continue
            if status == 200:
                return read(file)
            await asyncio.to_thread(lambda: None)


async def host(fleet: Fleet, devices: int) -> None:
    file = header_bytes(LAYOUT) + np.zeros(4, "<f4").tobytes()
    config = f'{{"num_cycles": 1, "min_diffs": {devices}, "max_diffs": {devices}, "pool_selection": "iterate"}}'
    body = f'{{"model": "{file.hex()}", "client_config": {{"name": "w", "version": "1"}}, "server_config": {config}}}'
    status, told = await fleet.ask("POST", "/model-centric/host-training", (body.encode(),), OWNER)
    assert status == 200, told


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("fault", "devices"),
    [("", DEVICES), *((f"{point}:{count}", DEVICES) for point, count in FAULTS.items()), ("after-task-row:500", 1000)],
)
async def test_every_acknowledged_difference_is_summed_once(
    fault: str, devices: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tokens").write_text(f"ModelsWriter {OWNER}\n")
    monkeypatch.setenv("GRID_TOKENS", str(tmp_path / "tokens"))
    node = Daemon("ann", tmp_path / "ann", fault)

    async with kept([node]), pool() as http:
        fleet = Fleet(node, http)
        await host(fleet, devices)

        def learn(number: int) -> Any:
            """Of the first twelve, each adds twice what the one before does, so that a sum tells who is in it."""
            return lambda model, _: {"w": model["w"] + np.float32(2.0 ** (number % DEVICES))}

        crowd = [Device(fleet.ask, fleet.back, "w", "1") for _ in range(devices)]
        done = await asyncio.gather(*(device.take_part(learn(number)) for number, device in enumerate(crowd)))
        made = await fleet.checkpoint(2)

    assert done == [None] * devices
    wanted: Mapping[str, float] = {"w": sum(2.0 ** (number % DEVICES) for number in range(devices)) / devices}
    np.testing.assert_allclose(made["w"], np.full(4, wanted["w"]), rtol=1e-5)
    assert node.deaths == (1 if fault else 0)
