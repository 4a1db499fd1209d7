"""A peer of a network without a centre, put together from its parts: for a node, or for a program that only asks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from grid.client.calls import Calls
from grid.client.egress import Egress
from grid.crypto.identity import Identity
from grid.dht.app import HttpTransport
from grid.dht.directory import DhtDirectory
from grid.dht.peer import Peer
from grid.dht.records import Network
from grid.dht.upkeep import PeerCache, Upkeep


class Place(NamedTuple):
    """A place in a network: the peer, what keeps it there, and the directory that the network is."""

    peer: Peer
    upkeep: Upkeep
    directory: DhtDirectory


def place(
    identity: Identity,
    calls: Calls,
    egress: Egress,
    bootstrap: Sequence[str],
    *,
    network: str = "",
    cache: PeerCache | None = None,
    listens: bool = True,
) -> Place:
    """A place in the network that the peers at `bootstrap` are part of. Nobody is called yet."""
    peer = Peer(identity, Network(network), HttpTransport(calls), now=time.time, allowed=egress.check)
    upkeep = Upkeep(peer, bootstrap, cache)
    return Place(peer, upkeep, DhtDirectory(peer, identity, calls, upkeep, now=time.time, listens=listens))


def searching(identity: Identity, calls: Calls, egress: Egress, bootstrap: Sequence[str]) -> DhtDirectory:
    """The network as somebody sees it who only asks: no record, no port, in nobody's table."""
    return place(identity, calls, egress, bootstrap).directory
