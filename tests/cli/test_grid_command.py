from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from grid.cli.assemble import NodeSettings, open_node
from grid.cli.grid import main
from grid.cli.node import main as node_main
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.gateway.app import Policy, open_gateway
from grid.gateway.kept import KeptLog, KeptMembers
from grid.gateway.log import Log
from grid.protocol.documents import sign_document
from grid.store.database import Database
from grid.transport.auth import Authenticator
from grid.transport.serve import running
from grid.wire.directory import NODE_RECORD, Join, NodeRecord


@dataclass
class Command:
    """Runs `grid ...` against the gateway at an address."""

    run: Callable[..., Awaitable[Result]]
    gateway: str

    async def __call__(self, *words: str) -> Result:
        return await self.run(*words)


@pytest.fixture
async def grid(tmp_path: Path) -> AsyncIterator[Command]:
    """Runs `grid ...` against a gateway at which one node with one dataset is listed."""
    identity = Identity.generate()
    policy = Policy(allow_unsigned=True, allow_private=True)
    async with (
        Database(None, "gateway") as database,
        open_gateway(
            identity,
            KeptMembers(database, log := Log(KeptLog(database), identity, time.time)),
            policy,
            auth=Authenticator(identity, time.time),
            now=time.time,
            version="0",
            log=log,
        ) as app,
        running(app) as gateway,
        listed_node(tmp_path / "node", gateway),
    ):
        env = {"GRID_HOME": str(tmp_path / "home"), "GRID_GATEWAY": gateway}
        runner = CliRunner(env=env)
        yield Command(lambda *words: asyncio.to_thread(runner.invoke, main, list(words)), gateway)


@asynccontextmanager
async def listed_node(data: Path, gateway: str) -> AsyncIterator[None]:
    identity, runner = Identity.load_or_create(data / "identity.key"), CliRunner()
    (data / "scans.csv").write_text("age,ill\n40,1\n51,0\n")
    words = f"dataset add {data / 'scans.csv'} --tag #mri --target ill --data {data}".split()
    assert (await asyncio.to_thread(runner.invoke, node_main, words)).exit_code == 0
    settings = NodeSettings(node_id="ward", data=data, isolation="prefer")
    async with (
        open_node(settings, identity, owners=()) as node,
        running(node.app) as address,
        open_http(Egress(allow_private=True)) as http,
    ):
        directory = GatewayDirectory(Calls(http, identity=identity), gateway)
        tags = node.parts.catalogue.tags()
        record = NodeRecord("ward", address, int(time.time() * 1000), time.time() + 60, tags, (), identity.id)
        await directory.join(Join("ward", address, sign_document(identity, NODE_RECORD, record)))
        yield


async def test_the_id_is_a_key_and_stays(grid: Command) -> None:
    first = await grid("id")

    assert len(first.stdout.strip()) == 43
    assert (await grid("id")).stdout == first.stdout


async def test_a_node_is_found_by_its_tags(grid: Command) -> None:
    found = await grid("search", "#mri")

    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("ward  http://127.0.0.1:")
    assert found.stdout.endswith("  verified  #mri\n")
    assert (await grid("search", "#mri", "#none", "--any")).stdout == found.stdout
    assert (await grid("search", "#mri", "--live")).stdout == found.stdout


async def test_nothing_found_says_so_beside_an_empty_answer(grid: Command) -> None:
    found = await grid("search", "#mri", "#none")

    assert (found.exit_code, found.stdout, found.stderr) == (0, "", "no node has such data\n")


async def test_datasets_are_described_node_by_node(grid: Command) -> None:
    described = await grid("datasets", "#mri")

    assert described.stdout.splitlines() == [
        "at ward:",
        "  scans  2 examples  #mri",
        "      features float32 [2, 1]",
        "      target int64 [2]  (to be learned)",
        "      classes: 0, 1",
        "      columns: age, ill",
    ]


async def test_a_gateway_that_is_not_there_is_one_line_of_error(grid: Command) -> None:
    refused = await grid("search", "#mri", "--gateway", "http://127.0.0.1:1")

    assert refused.exit_code == 1
    assert refused.stderr.startswith("error: http://127.0.0.1:1")
    assert len(refused.stderr.splitlines()) == 1


async def test_what_is_no_address_is_a_wrong_call(grid: Command) -> None:
    assert (await grid("search", "#mri", "--gateway", "gateway.org")).exit_code == 2


async def test_nodes_are_asked_what_the_gateway_showed_them(grid: Command) -> None:
    compared = await grid("peer", "compare", "#mri")

    assert (compared.exit_code, compared.stdout) == (0, "ward: follows no log of this gateway\n")
    assert (await grid("peer", "compare", "#none")).exit_code == 1


async def test_a_key_that_is_lost_is_revoked_at_every_node_that_knows_it(grid: Command, tmp_path: Path) -> None:
    apart = str(tmp_path / "apart")
    key = (await grid("id")).stdout.strip()
    saved = await grid("revoke", "--save", apart, "--reason", "the laptop was stolen")
    (tmp_path / "home" / "identity.key").unlink()

    strange = await grid("revoke", "--certificate", apart, "--gateway", grid.gateway)
    trust = ["peer", "trust", key, "--data", str(tmp_path / "node")]
    assert (await asyncio.to_thread(CliRunner().invoke, node_main, trust)).exit_code == 0
    told = await grid("revoke", "--certificate", apart, "--gateway", grid.gateway)

    assert "can revoke" in saved.stdout
    assert strange.stdout == "ward: does not know the key\n"
    assert told.stdout == "ward: trains for it no more\n"
    assert (await grid("revoke")).exit_code == 2
