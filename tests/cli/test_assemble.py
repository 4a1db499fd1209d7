"""Nodes put together from their parts, with the workers they have outside of tests."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest

from grid.cli.assemble import Chores
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.crypto.identity import Identity
from grid.wire.node import HOLDS, STATUS, TRUSTED, Query
from grid.wire.problems import NotAllowed, NotAMember, RunRefused
from grid.wire.session import HEALTH, IDENTITY
from tests.gateway.conftest import gateway_at
from tests.grid_of_nodes import ANode, Learner, Scientist, numbers, plan_of

StartNode = Callable[..., Awaitable[ANode]]

DAEMON = """
import asyncio, pathlib, sys
from grid.cli.assemble import NodeSettings, run_node
settings = NodeSettings("ann", pathlib.Path(sys.argv[1]), port=0, gateways=(sys.argv[2],))
asyncio.run(run_node(settings, lambda address: print(address, flush=True)))
"""


async def test_a_node_lists_itself_answers_and_says_good_bye_on_sigterm(tmp_path: Path, scientist: Scientist) -> None:
    async with gateway_at(tmp_path, clock=time.time) as gateway:  # type: ignore[arg-type]
        directory = GatewayDirectory(scientist.calls, gateway)
        daemon = await asyncio.create_subprocess_exec(
            *[sys.executable, "-c", DAEMON, str(tmp_path / "ann"), gateway],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert daemon.stdout is not None
            address = (await daemon.stdout.readline()).decode().strip()
            async with asyncio.timeout(10):
                while not await listed(directory):
                    pass

            identity = await scientist.calls.call(address, IDENTITY)
            status = await scientist.calls.call(address, STATUS)
            holds = await scientist.calls.call(address, HOLDS, Query(("#pulse",)))

            assert identity.public_key == Identity.load(tmp_path / "ann" / "identity.key").id
            assert (status.node_id, status.status, status.datasets, status.runs) == ("ann", "online", 0, {})
            assert holds.content is False
            with pytest.raises(NotAllowed):
                await scientist.calls.call(address, TRUSTED)
            owner = Calls(scientist.calls._http, identity=Identity.load(tmp_path / "ann" / "owner.key"))
            assert (await owner.call(address, TRUSTED)).trusted == ()
            daemon.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(daemon.wait(), 10) == 0
        finally:
            if daemon.returncode is None:
                daemon.kill()
        assert not await listed(directory)


async def listed(directory: GatewayDirectory) -> bool:
    try:
        await directory.resolve("ann")
    except NotAMember:
        return False
    return True


async def test_a_node_is_healthy_and_says_what_isolates_its_workers(
    start_node: StartNode, scientist: Scientist
) -> None:
    ann = await start_node("ann")

    health = await scientist.calls.call(ann.address, HEALTH)
    status = await scientist.calls.call(ann.address, STATUS)

    assert health is not None
    assert status.isolation.policy == "require"
    assert status.isolation.sufficient == (status.isolation.landlock > 0 and status.isolation.seccomp)


async def test_a_node_with_too_few_examples_gives_nothing_of_them_away(
    scientist: Scientist, coordinator: ANode, start_node: StartNode
) -> None:
    ann = await start_node("ann", Learner(examples=20), real=True)

    run = await scientist.start(coordinator, [ann])

    with pytest.raises(RunRefused, match="20 examples to train on"):
        await run.result()


async def test_two_nodes_train_in_sandboxed_workers(scientist: Scientist, start_node: StartNode) -> None:
    ann, bob = (
        await start_node("ann", Learner(examples=100), real=True),
        await start_node("bob", Learner(examples=60), real=True),
    )
    plan = plan_of(lr=0.1, optimizer="sgd", epochs=2)

    result = await (await scientist.start(ann, [ann, bob], plan, rounds=3, holdout=0.2)).result()

    losses = [line.metrics["loss"] for line in result.history]  # the data are zeros: the bias learns to be zero
    assert losses[-1] < losses[0]
    assert np.isfinite(numbers(result.plan.initial)).all()
    assert [line.accepted for line in result.history] == [2, 2, 2]


async def test_chores_end_with_their_block_and_a_broken_one_ends_nothing_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ended: list[str] = []
    may_break = asyncio.Event()

    async def breaks() -> None:
        await may_break.wait()
        raise OSError("disk full")

    async def lasts() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("lasts")

    async with Chores() as chores:
        broken, lasting = chores.begin(breaks()), chores.begin(lasts())
        may_break.set()
        await asyncio.wait({broken})
        assert not lasting.done()

    assert ended == ["lasts"]
    assert "disk full" in caplog.text
