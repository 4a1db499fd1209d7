"""Nodes with and without gateways, as real processes: what is left when a gateway, or a node, is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from grid.cli import digits
from grid.cli.connect import aconnect
from grid.cli.processes import Daemon, Daemons
from grid.cli.small_grid import TAG, _stock
from grid.client.grid import Grid
from grid.crypto.identity import Identity
from grid.learning.plan import Plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]

TICK = 0.05


async def found(grid: Grid, names: set[str]) -> None:
    """Wait until a search finds exactly these."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(30):
        while {node.id for node in await grid.search(TAG)} != names:
            loop.call_later(TICK, (tick := asyncio.Event()).set)
            await tick.wait()


async def node(daemons: Daemons, folder: Path, me: Identity, name: str, share: digits.Share, *words: str) -> Daemon:
    await _stock(folder, name, share)
    told = (f"--data={folder / name}", "--port=0", f"--id={name}", f"--trust={me.id}", "--isolation=prefer")
    return await daemons.start(name, "grid.cli.node", "start", *told, "--workers=1", "--device=cpu", *words)


async def said(command: str, data: Path, *words: str) -> str:
    line = [sys.executable, "-m", "grid.cli.node", "dht", command, *words, f"--data={data}"]
    process = await asyncio.create_subprocess_exec(*line, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_a_run_and_a_client_outlive_the_only_gateway(tmp_path: Path) -> None:
    me, dealt = Identity.generate(), digits.deal(digits.load(300, 1), 3, 1)
    names = ("north", "east", "south")
    async with Daemons(tmp_path) as daemons:
        gateway = await daemons.start(
            "gateway", "grid.cli.gateway", "start", f"--data={tmp_path / 'gateway'}", "--port=0"
        )
        at = f"--gateway={gateway.address}"
        first = await node(daemons, tmp_path, me, names[0], dealt.shares[0], at, "--dht")
        peer = f"--bootstrap={first.address}"
        rest = zip(names[1:], dealt.shares[1:], strict=False)
        others = [await node(daemons, tmp_path, me, name, share, at, peer) for name, share in rest]
        both = (gateway.address, *(f"dht+{each.address}" for each in (first, *others)))
        async with aconnect(both[1], identity=me) as alone, aconnect(both, identity=me) as grid:
            await found(alone, set(names))
            await found(grid, set(names))
            run = await grid.train(Plan.linear(64, 10, metrics=["accuracy"]), TAG, rounds=4, holdout=0.2)
            gateway.kill()
            await gateway.ended()

            async with asyncio.timeout(3):
                assert {each.id for each in await grid.search(TAG)} == set(names)
            result = await run.result()

    assert len(result.history) == 4


async def test_without_any_gateway_a_run_outlives_the_node_that_all_joined_through(tmp_path: Path) -> None:
    me, dealt = Identity.generate(), digits.deal(digits.load(300, 1), 3, 1)
    names = ("east", "south", "west")
    async with Daemons(tmp_path) as daemons:
        first = await daemons.start(
            "first", "grid.cli.node", "start", f"--data={tmp_path / 'first'}", "--port=0", "--dht"
        )
        peer = f"--bootstrap={first.address}"
        shares = zip(names, dealt.shares, strict=False)
        nodes = [await node(daemons, tmp_path, me, name, share, peer) for name, share in shares]
        async with aconnect([f"dht+{each.address}" for each in (first, *nodes)], identity=me) as grid:
            await found(grid, set(names))
            assert first.address in await said("peers", tmp_path / "east")
            async with asyncio.timeout(20):
                while "peers         3" not in (status := await said("status", tmp_path / "east")):
                    pass
            assert "lookups" in status
            assert (await said("lookup", tmp_path / "first", TAG)).split()[::2] == ["east", "south", "west"]
            first.kill()
            await first.ended()
            await found(grid, set(names))
            run = await grid.train(Plan.linear(64, 10, metrics=["accuracy"]), TAG, rounds=3, holdout=0.2)
            result = await run.result()

    assert len(result.history) == 3
