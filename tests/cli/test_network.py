"""Nodes with and without gateways, as real processes: what is left when a gateway, or a node, is killed."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from grid.cli import digits
from grid.cli.connect import aconnect
from grid.cli.processes import Daemon, Daemons
from grid.cli.small_grid import TAG, _stock
from grid.client.bundles import hand_in_plan
from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.client.grid import Grid
from grid.client.writing import open_relay
from grid.crypto.identity import Identity
from grid.learning.plan import Plan
from grid.protocol.documents import read_document
from grid.wire import projects as wire
from grid.wire.node import STATUS
from grid.wire.problems import Unreachable
from grid.wire.relay import mailbox_at
from grid.wire.runs import After

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


async def test_a_node_whose_disk_was_wiped_is_found_on_its_new_port_within_two_seconds(tmp_path: Path) -> None:
    me, ward = Identity.generate(), Identity.generate()
    async with Daemons(tmp_path) as daemons:
        words = (f"--data={tmp_path / 'first'}", "--port=0", "--dht", f"--trust={me.id}")
        first = await daemons.start("first", "grid.cli.node", "start", *words)

        async def start(disk: str) -> Daemon:
            words = (f"--data={tmp_path / disk}", "--port=0", "--id=ward", f"--bootstrap={first.address}")
            return await daemons.start(disk, "grid.cli.node", "start", *words, f"--identity-key={ward.secret}")

        before = await start("disk")
        async with aconnect(f"dht+{first.address}", identity=me) as grid:
            await answers(grid, before.address, ward)
            before.kill()
            await before.ended()
            after = await start("another-disk")
            assert after.address != before.address
            async with asyncio.timeout(2):
                await answers(grid, before.address, ward)
                while (await grid._directory.resolve("ward")).node_address != after.address:
                    pass


async def answers(grid: Grid, address: str, who: Identity) -> None:
    """Wait until the holder of a key answers, whatever has become of the address."""
    while True:
        try:
            said = await grid._calls.call(address, STATUS, peer=who.public)
        except Unreachable:
            continue
        assert said.node_id == "ward"
        return


async def test_a_project_of_sites_without_ports_outlives_the_only_gateway(tmp_path: Path) -> None:
    me, dealt = Identity.generate(), digits.deal(digits.load(300, 1), 2, 1)
    plan = Plan.linear(64, 10, metrics=["accuracy"])
    async with Daemons(tmp_path) as daemons, open_http(Egress(allow_private=True)) as http:
        words = ("start", f"--data={tmp_path / 'gateway'}", "--port=0")
        gateway = await daemons.start("gateway", "grid.cli.gateway", *words)
        at = f"--gateway={gateway.address}"
        words = ("start", f"--data={tmp_path / 'lead'}", "--port=0", "--id=lead", "--dht", "--relay", at)
        lead = await daemons.start("lead", "grid.cli.node", *words, f"--trust={me.id}")
        leads = Identity.load(tmp_path / "lead" / "identity.key")
        sites = [
            await node(daemons, tmp_path, leads, name, share, at, f"--bootstrap={lead.address}", "--no-listen")
            for name, share in zip(("east", "west"), dealt.shares, strict=True)
        ]
        assert all(mailbox_at(site.address) == (gateway.address, mailbox_at(site.address)[1]) for site in sites)  # type: ignore[index]
        owner = Calls(http, identity=Identity.load(tmp_path / "lead" / "owner.key"))
        project = await begun(owner, tmp_path, lead, sites, plan)
        async with aconnect((gateway.address, f"dht+{lead.address}"), identity=me) as grid:
            await found(grid, {"east", "west"})
            gateway.kill()
            await gateway.ended()
            async with asyncio.timeout(3):
                assert {each.id for each in await grid.search(TAG)} == {"east", "west"}
        (batch,) = await ended(owner, lead, leads, project)

    assert [run.state for run in batch.runs] == ["success"] * 3, batch


async def begun(owner: Calls, folder: Path, lead: Daemon, sites: list[Daemon], plan: Plan) -> str:
    """A project of three tasks whose first run is under way."""
    key = Identity.load(folder / "lead" / "identity.key")
    me = Identity.load(folder / "lead" / "owner.key")
    await hand_in_plan(owner, me, lead.address, key.public, plan, time.time())
    exact = {"upload": {"name": "exact"}}
    settings = {"tags": [TAG], "rounds": 3, "holdout": 0.2, "strategy": exact, "deadline": 60.0}
    tasks = tuple(wire.ProjectTask(plan.digest, settings, name, at > 0) for at, name in enumerate(("a", "b", "c")))
    keys = [Identity.load(folder / site.name / "identity.key") for site in sites]
    asked = wire.CreateProject("digits", tasks, members=tuple(each.id for each in keys))
    info = await owner.call(lead.address, wire.CREATE_PROJECT, asked, peer=key.public)
    project = read_document(info.project, wire.Project, wire.PROJECT).project
    for site, who in zip(sites, keys, strict=True):
        async with open_http(Egress(allow_private=True)) as http:
            theirs = Identity.load(folder / site.name / "owner.key")
            calls = Calls(http, identity=theirs)
            async with open_relay(calls, theirs, time.time):
                joins = wire.JoinProject(project, lead.address, key.id)
                await calls.call(site.address, wire.JOIN_PROJECT, joins, peer=who.public)
    await owner.call(lead.address, wire.START_PROJECT, peer=key.public, project=project)
    return project


async def ended(owner: Calls, lead: Daemon, key: Identity, project: str) -> tuple[wire.Batch, ...]:
    """The batches of a project once it has ended."""
    cursor = 0
    while True:
        query = After(cursor, 5.0)
        heard = await owner.call(lead.address, wire.PROJECT_EVENTS, query=query, peer=key.public, project=project)
        if any(event.kind == "batch-ended" for event in heard.events):
            info = await owner.call(lead.address, wire.PROJECT_INFO, peer=key.public, project=project)
            return info.batches
        cursor = heard.after


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
