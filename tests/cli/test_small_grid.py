"""A grid of real processes whose nodes, and whose coordinator, have no ports."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from grid.cli import digits
from grid.cli.connect import aconnect
from grid.cli.small_grid import TAG, small_grid
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.wire.relay import mailbox_at


def ports_of(pid: int) -> set[str]:
    """The TCP sockets on which a process of this machine listens."""
    held = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # the one through which we look
            held.add(str(descriptor.readlink()))
    tables = [Path(f"/proc/{pid}/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()]
    return {row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in held}


@pytest.mark.slow
async def test_nodes_and_a_coordinator_without_ports_train_through_one_gateway(tmp_path: Path) -> None:
    me = Identity.generate()
    dealt = digits.deal(digits.load(400, 1), 3, 1)
    shares = dict(zip(("north", "east", "south"), dealt.shares, strict=False))
    async with (
        asyncio.timeout(120),
        small_grid(tmp_path, shares, me.id, lambda _: None, workers=1, device="cpu", listen=False) as here,
        aconnect(here.gateway.address, identity=me, listen=False) as grid,
    ):
        assert [len(ports_of(daemon.pid)) for daemon in (here.gateway, *here.nodes)] == [1, 0, 0, 0]
        assert all(mailbox_at(node.address) for node in here.nodes)
        assert {node.id for node in await here.listed(grid)} == {"north", "east", "south"}
        listed = await owner(tmp_path / "north", "list")  # its owner's commands find it without a port

        run = await grid.train(Plan.linear(64, 10, metrics=["accuracy"]), TAG, rounds=2, holdout=0.2)
        result = await run.result()
        assert ports_of(os.getpid()) == set()  # the coordinator is in this process

    assert listed.startswith("digits")
    assert [line.accepted for line in result.history] == [3, 3]
    assert result.metrics["accuracy"] > 0.15


async def owner(data: Path, *words: str) -> str:
    command = [sys.executable, "-m", "grid.cli.node", "dataset", *words, f"--data={data}"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()
