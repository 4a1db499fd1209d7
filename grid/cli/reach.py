"""How a node is reached and finds others: its place in a network without a centre, its berth, mailboxes it keeps."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from grid.cli.network import Belonging, Place, place
from grid.client.relay import Relay
from grid.dht.app import dht_routes
from grid.dht.front import Front, front_routes
from grid.dht.upkeep import PeerCache
from grid.node.berth import Berth
from grid.node.means import Means
from grid.relay.app import relay_routes
from grid.relay.mailboxes import Mailboxes
from grid.store.blobs import Blobs
from grid.store.database import Database
from grid.store.events import EventLog
from grid.transport.app import Routes
from grid.transport.metrics import Metrics


class Reach(NamedTuple):
    """Where a node without a port is reached; its place in a network; the mailboxes it keeps for others."""

    berth: Berth
    network: Place | None = None
    mailboxes: Mailboxes | None = None


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
    return Reach(Berth(relay, gateways, here.directory.relays), here, mailboxes)


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
    metrics.gauge("grid_dht_refused", "Records refused", lambda: sum(here.peer.answers.refused.values()))
    front = Front(here.peer, here.directory, means.now, means.catalogue.holds)
    routes = {**dht_routes(here.peer), **front_routes(front, here.peer)}
    if mailboxes is None:
        return routes
    metrics.gauge("grid_relay_bytes", "Bytes of letters that wait", lambda: mailboxes.waiting)
    return {**routes, **relay_routes(mailboxes)}
