"""`grid-node revoke`: a key is declared lost, by a certificate that was made while it was there."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from aiohttp import ClientSession
from click.testing import CliRunner

from grid.cli.node import main
from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.client.payload import read_prekey
from grid.crypto.identity import Identity
from grid.node.keys import Prekeys
from grid.protocol.documents import sign_document
from grid.store.database import Database
from grid.wire.directory import NODE_RECORD, Join, NodeRecord
from grid.wire.problems import KeyRevoked
from tests.gateway.conftest import gateway_at


def a_join(who: Identity) -> Join:
    now, address = time.time(), "http://127.0.0.1:1"
    record = NodeRecord("ann", address, int(now * 1000), now + 60, (), (), who.id)
    return Join("ann", address, sign_document(who, NODE_RECORD, record))


async def test_a_certificate_made_in_advance_revokes_the_key_without_it(
    tmp_path: Path, connections: ClientSession
) -> None:
    key = Identity.load_or_create(tmp_path / "node" / "identity.key")

    async def revoke(*words: str) -> str:
        told = await asyncio.to_thread(CliRunner().invoke, main, ["revoke", *words])
        assert told.exit_code == 0, told.output
        return told.output

    await revoke("--save", str(tmp_path / "apart"), "--reason", "lost", "--data", str(tmp_path / "node"))
    assert (tmp_path / "apart").stat().st_mode & 0o077 == 0
    (tmp_path / "node" / "identity.key").unlink()

    async with gateway_at(tmp_path, clock=time.time) as gateway:  # type: ignore[arg-type]
        node = GatewayDirectory(Calls(connections, identity=key), gateway)
        await node.join(a_join(key))
        told = await revoke("--certificate", str(tmp_path / "apart"), "--gateway", gateway)
        with pytest.raises(KeyRevoked, match="lost"):
            await node.join(a_join(key))

    assert "is revoked at" in told


def test_a_file_that_is_no_certificate_or_neither_goal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    run = CliRunner().invoke

    assert run(main, ["revoke", "--data", str(tmp_path)]).exit_code == 2
    wrong = run(main, ["revoke", "--certificate", str(tmp_path / "file"), "--gateway", "http://127.0.0.1:9"])
    assert "no certificate" in wrong.output


async def test_a_node_changes_its_key_and_keeps_its_name(tmp_path: Path, connections: ClientSession) -> None:
    data = tmp_path / "node"
    old = Identity.load_or_create(data / "identity.key")
    async with Database(data / "node.db", "node") as database:
        Prekeys(database, old, time.time).published()
    async with gateway_at(tmp_path, clock=time.time) as gateway:  # type: ignore[arg-type]
        await GatewayDirectory(Calls(connections, identity=old), gateway).join(a_join(old))
        words = ["rotate", "--gateway", gateway, "--data", str(data)]
        told = await asyncio.to_thread(CliRunner().invoke, main, words)
        new = Identity.load(data / "identity.key")
        await GatewayDirectory(Calls(connections, identity=new), gateway).join(a_join(new))
        found = await GatewayDirectory(Calls(connections), gateway).resolve("ann")

    assert told.exit_code == 0, told.output
    assert found.record is not None
    assert found.record.signer == new.id != old.id
    assert not (data / "identity.next").exists()
    async with Database(data / "node.db", "node") as database:  # what is sealed to is signed by the new key
        read_prekey(Prekeys(database, new, time.time).published(), new.public, time.time())
