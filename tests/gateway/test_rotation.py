"""A key gives its place to another: at the word of both, with its name, and with the pins of those who knew it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.pins import FilePins
from grid.crypto.identity import Identity
from grid.node.peers import Peers
from grid.protocol.documents import sign_document
from grid.store.database import Database
from grid.wire.log import ROTATE_KEY, ROTATION, Rotate, Rotation
from grid.wire.problems import BadRequest, BadSignature, KeyRevoked, NodeIdTaken
from tests.gateway.test_lying_gateway import ANN, BOB, EVE, Gateway, a_gateway, a_join, search

NEW = Identity.from_seed(b"n" * 32)


def rotation(old: Identity, new: Identity, by_old: Identity | None = None, by_new: Identity | None = None) -> Rotate:
    said = Rotation(old.id, new.id, time.time())
    return Rotate(sign_document(by_old or old, ROTATION, said), sign_document(by_new or new, ROTATION, said))


@pytest.fixture
async def gateway(tmp_path: Path, connections: ClientSession) -> AsyncIterator[Gateway]:
    """A gateway at which ann and bob are listed."""
    async with a_gateway(tmp_path, connections) as there:
        for name, key in (("ann", ANN), ("bob", BOB)):
            await there.seen_by(key).join(a_join(name, key))
        yield there


async def test_the_new_key_has_the_name_and_the_pins_of_the_old_one(gateway: Gateway, tmp_path: Path) -> None:
    pins = FilePins(tmp_path / "peers.json", time.time)
    await search(gateway, pins).search("#pulse")
    async with Database(tmp_path / "node.db", "node") as database:
        peers, audit = Peers(database, time.time), gateway.audit(BOB, "bob", database)
        await peers.meet([("ann", ANN.id)])
        await audit.look()

        await Calls(gateway.http).call(gateway.address, ROTATE_KEY, rotation(ANN, NEW))
        await gateway.seen_by(NEW).join(a_join("ann", NEW))
        found = await search(gateway, pins).search("#pulse")
        await audit.look()

        assert {node.id: node.public_key for node in found} == {"ann": NEW.id, "bob": BOB.id}
        assert {peer.name: peer.public_key for peer in await peers.known()}["ann"] == NEW.id
    assert pins.all()[f"ann@{gateway.address}"].public_key == NEW.id


async def test_the_node_itself_finds_nothing_foreign_after_its_rotation(gateway: Gateway, tmp_path: Path) -> None:
    async with Database(tmp_path / "node.db", "node") as database:
        await gateway.audit(ANN, "ann", database).look()
        await Calls(gateway.http).call(gateway.address, ROTATE_KEY, rotation(ANN, NEW))
        await gateway.seen_by(NEW).join(a_join("ann", NEW))
        await gateway.audit(NEW, "ann", database).look()

        assert Peers(database, time.time).alarms() == {}


async def test_the_old_key_is_refused_everywhere(gateway: Gateway, tmp_path: Path) -> None:
    await Calls(gateway.http).call(gateway.address, ROTATE_KEY, rotation(ANN, NEW))

    with pytest.raises(KeyRevoked, match=f"replaced by {NEW.id}"):
        await gateway.seen_by(ANN).join(a_join("ann", ANN))
    with pytest.raises(KeyRevoked):
        await Calls(gateway.http).call(gateway.address, ROTATE_KEY, rotation(ANN, EVE))
    with pytest.raises(KeyRevoked):
        await Calls(gateway.http).call(gateway.address, ROTATE_KEY, rotation(BOB, ANN))
    async with Database(tmp_path / "node.db", "node") as database:
        await gateway.audit(BOB, "bob", database).look()
        with pytest.raises(KeyRevoked, match="replaced"):
            Peers(database, time.time).refuse_revoked(ANN.id)


async def test_several_rotations_lead_from_the_first_key_to_the_last(gateway: Gateway, tmp_path: Path) -> None:
    pins = FilePins(tmp_path / "peers.json", time.time)
    await search(gateway, pins).search("#pulse")
    for old, new in ((ANN, NEW), (NEW, EVE)):
        again = [await Calls(gateway.http).call(gateway.address, ROTATE_KEY, rotation(old, new)) for _ in range(2)]
        assert again[0].entry == again[1].entry
    await gateway.seen_by(EVE).join(a_join("ann", EVE))

    found = await search(gateway, pins).search("#pulse")

    assert {node.id: node.public_key for node in found}["ann"] == EVE.id


async def test_one_key_alone_rotates_nothing(gateway: Gateway) -> None:
    call = Calls(gateway.http).call
    for forged in (rotation(ANN, EVE, by_old=EVE), rotation(ANN, EVE, by_new=ANN), rotation(ANN, ANN)):
        with pytest.raises(BadSignature):
            await call(gateway.address, ROTATE_KEY, forged)
    mixed = Rotate(rotation(ANN, EVE).by_old, rotation(ANN, NEW).by_new)
    with pytest.raises(BadSignature):
        await call(gateway.address, ROTATE_KEY, mixed)
    with pytest.raises(BadRequest, match="never listed"):
        await call(gateway.address, ROTATE_KEY, rotation(EVE, NEW))

    with pytest.raises(NodeIdTaken):
        await gateway.seen_by(EVE).join(a_join("ann", EVE))
