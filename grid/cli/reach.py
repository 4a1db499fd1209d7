"""How a node is reached and finds others: its berth, its place in a network without a centre, whom it serves there."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from grid.cli.network import Belonging, Place, place
from grid.client.relay import Relay
from grid.dht.app import dht_routes
from grid.dht.front import Front, Guests, front_routes
from grid.dht.upkeep import PeerCache
from grid.dht.whole import Change
from grid.node.berth import Berth
from grid.node.means import Means
from grid.relay.app import relay_routes
from grid.relay.mailboxes import Mailboxes
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.transport.app import Routes
from grid.transport.metrics import Metrics

SPLIT, WHOLE = "network-split", "network-whole"
"""What a node's events say of its network."""


class Reach(NamedTuple):
    """Where a node without a port is reached; its place in a network; mailboxes that it keeps there, and guests."""

    berth: Berth
    network: Place | None = None
    mailboxes: Mailboxes | None = None
    guests: Guests | None = None


def open_reach(
    means: Means,
    relay: Relay,
    folder: Path,
    gateways: Sequence[str],
    bootstrap: Sequence[str] | None,
    *,
    belonging: Belonging,
    listens: bool,
    mailboxes: Mailboxes | None,
    guests: Guests | None,
) -> Reach:
    """How a node is reached that lists itself at `gateways`, and in the network of those at `bootstrap` unless None."""
    if bootstrap is None:
        return Reach(Berth(relay, gateways))
    here = place(
        means.identity,
        means.calls,
        means.egress,
        bootstrap,
        belonging=belonging,
        cache=PeerCache(folder / "network.json"),
        listens=listens,
        relays=mailboxes is not None,
    )
    relay.finds = here.directory.address_of
    here.upkeep.noticed = partial(_noticed, means)
    return Reach(Berth(relay, gateways, here.directory.relays), here, mailboxes, guests)


async def _noticed(means: Means, change: Change) -> None:
    """The owner hears that the network may be split, and that it is one again."""
    told = {"silent": change.silent, "known": change.known, "since": change.since, "why": str(change)}
    await means.peers.tell(SPLIT if change.split else WHOLE, told)


async def open_mailboxes(database: Database, events: EventLog, folder: Path, room: int) -> Mailboxes:
    """The mailboxes that a node keeps for others, up to `room` bytes."""
    mailboxes = Mailboxes(database, events, Blobs(folder / "letters"), time.time, room)
    await mailboxes.load()
    return mailboxes


def reach_routes(reach: Reach, means: Means, metrics: Metrics) -> Routes:
    """What a node answers as a peer of its network, and as a relay in it."""
    here, mailboxes = reach.network, reach.mailboxes
    if here is None:
        return {}
    metrics.gauge("grid_dht_contacts", "Peers that this node knows", lambda: len(here.peer.table))
    metrics.gauge("grid_dht_records", "Records that it keeps", lambda: len(here.peer.shelf))
    metrics.gauge("grid_dht_lookups", "Lookups since the start", lambda: here.peer.count["lookups"])
    metrics.gauge("grid_dht_calls", "Calls of lookups since the start", lambda: here.peer.count["calls"])
    metrics.gauge(
        "grid_dht_silent", "Peers that fell silent together; 0: the network is whole", lambda: here.peer.whole.silent
    )
    metrics.gauge("grid_dht_refused", "Records refused", lambda: sum(here.peer.answers.refused.values()))
    front = Front(here.peer, here.directory, means.now, means.catalogue.holds, reach.guests)
    routes = {**dht_routes(here.peer), **front_routes(front)}
    if mailboxes is None:
        return routes
    metrics.gauge("grid_relay_bytes", "Bytes of letters that wait", lambda: mailboxes.waiting)
    return {**routes, **relay_routes(mailboxes)}
