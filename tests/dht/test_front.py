"""A node of a network as programs of the grid RFC see it, beyond their contract; and what its owner hears of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from grid.client.calls import Calls
from grid.dht.whole import Change
from grid.wire.dht import KNOWN, SEARCH_HERE
from grid.wire.directory import AVAILABLE_TAGS, CONNECTED_NODES, DELETE_NODE, JOIN, Join, Leave, Search
from grid.wire.node import NODE_EVENTS
from grid.wire.problems import NodeIdTaken, NotAMember, UnsignedJoinRefused
from grid.wire.runs import After
from tests.dht.peers import ME, Peers, peer_of
from tests.gateway.conftest import rfc_node
from tests.gateway.test_rfc_contract import StartNode
from tests.grid_of_nodes import pool

__all__ = ["rfc_node"]


@pytest.fixture
async def peers(tmp_path: Path) -> AsyncIterator[Peers]:
    peers = Peers(tmp_path)
    yield peers
    await peers.end()


async def test_a_guest_is_found_beside_nodes_of_the_network_and_takes_nobodys_name(
    peers: Peers, rfc_node: StartNode
) -> None:
    north = await peers.start("north", allow_unsigned=True)
    south = await peers.start("south", data=False)
    phone = await rfc_node("#pulse")
    async with pool() as http:
        calls = Calls(http)
        joined = await calls.call(north.address, JOIN, Join("phone", phone))
        found = await calls.call(north.address, SEARCH_HERE, Search(("#pulse",)))
        with pytest.raises(NodeIdTaken):
            await calls.call(north.address, JOIN, Join("north", phone))
        with pytest.raises(UnsignedJoinRefused):
            await calls.call(south.address, JOIN, Join("phone", phone))
        with pytest.raises(NotAMember):
            await calls.call(south.address, DELETE_NODE, Leave("phone", phone))
        connected = await calls.call(north.address, CONNECTED_NODES)
        tags = await calls.call(north.address, AVAILABLE_TAGS)

    assert not joined.verified
    assert found.node_addresses == (("north", north.address), ("phone", phone))
    assert (found.unverified, found.content) == (("phone",), True)
    assert (set(connected.grid_nodes), connected.unverified) == ({"south", "phone"}, ("phone",))
    assert tags == ("#pulse",)


async def test_the_owner_hears_that_the_network_may_be_split(peers: Peers) -> None:
    node = await peers.start("north", data=False)
    peer, network = peer_of(node), node.open.reach.network
    assert network is not None
    for number in (1, 2):
        peer.whole.lost(bytes([number]) * 20, f"http://10.0.0.{number}:1", peer.now())
    await network.upkeep._look()
    async with pool() as http:
        calls = Calls(http, identity=ME)
        (event,) = (await calls.call(node.address, NODE_EVENTS, query=After(0, 5.0))).events
        known = await calls.call(node.address, KNOWN)
        async with http.get(node.address + "/metrics") as response:
            metrics = await response.text()

    assert (event.kind, event.data["silent"]) == ("network-split", 2)
    assert event.data["why"] == str(Change(True, 2, 2, 0.0))
    assert (known.silent, known.split_since) == (2, peer.whole.since)
    assert "grid_dht_silent 2" in metrics
