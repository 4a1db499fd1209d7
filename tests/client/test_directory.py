"""A gateway as a directory, over HTTP."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from aiohttp import ClientSession

from grid.client.calls import Calls
from grid.client.directory import GatewayDirectory
from grid.crypto.identity import Identity
from grid.protocol.documents import sign_document
from grid.wire.directory import NODE_RECORD, Join, Leave, NodeRecord, Renew, Search
from grid.wire.problems import BadSignature, NodeIdTaken, NotAllowed, NotAMember, NotAuthenticated, Unreachable
from tests.gateway.conftest import gateway_at

ANN, EVE = Identity.from_seed(b"a" * 32), Identity.from_seed(b"e" * 32)
ADDRESS = "http://127.0.0.1:5001"


def a_join(who: Identity) -> Join:
    now = time.time()
    record = NodeRecord("ann", ADDRESS, int(now * 1000), now + 60, ("#pulse",), (), who.id)
    return Join("ann", ADDRESS, sign_document(who, NODE_RECORD, record))


async def test_a_node_joins_is_found_renews_and_leaves(tmp_path: Path, connections: ClientSession) -> None:
    async with gateway_at(tmp_path, clock=time.time) as address:  # type: ignore[arg-type]
        mine = GatewayDirectory(Calls(connections, identity=ANN), address)
        anyone = GatewayDirectory(Calls(connections), address)

        joined = await mine.join(a_join(ANN))
        found = await anyone.search(Search(("#pulse",)))
        known = await anyone.resolve("ann")
        renewed = await mine.renew(Renew("ann", busy=True))

        assert (joined.verified, found.node_addresses) == (True, (("ann", ADDRESS),))
        assert known.record is not None
        assert known.record.signer == ANN.id
        assert renewed.lease > 0
        await mine.leave(Leave("ann", ADDRESS))
        with pytest.raises(NotAMember):
            await anyone.resolve("ann")
        with pytest.raises(NotAMember):
            await mine.renew(Renew("ann"))


async def test_another_key_can_neither_take_a_place_nor_end_it(tmp_path: Path, connections: ClientSession) -> None:
    async with gateway_at(tmp_path, clock=time.time) as address:  # type: ignore[arg-type]
        await GatewayDirectory(Calls(connections, identity=ANN), address).join(a_join(ANN))
        eve = GatewayDirectory(Calls(connections, identity=EVE), address)

        with pytest.raises(NodeIdTaken):
            await eve.join(a_join(EVE))
        with pytest.raises((NotAMember, NotAllowed, BadSignature)):
            await eve.renew(Renew("ann"))
        with pytest.raises((NotAMember, NotAllowed, BadSignature)):
            await eve.leave(Leave("ann", ADDRESS))
        with pytest.raises(NotAuthenticated):
            await GatewayDirectory(Calls(connections), address).renew(Renew("ann"))

        assert (await eve.resolve("ann")).state != "offline"


async def test_a_gateway_that_is_not_there_is_unreachable(connections: ClientSession) -> None:
    with pytest.raises(Unreachable):
        await GatewayDirectory(Calls(connections), "http://127.0.0.1:9").search(Search(("#pulse",)))
