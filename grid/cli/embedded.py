"""A coordinator inside a notebook's own process, for scientists who have no node to ask."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex

from grid.cli.assemble import NodeSettings, embedded_node
from grid.cli.network import Belonging
from grid.client.grid import Remote
from grid.crypto.identity import Identity


@asynccontextmanager
async def coordinator(
    identity: Identity,
    host: str,
    address: str | None,
    listen: bool = True,
    gateways: tuple[str, ...] = (),
    peers: tuple[str, ...] = (),
    network: str = "",
) -> AsyncIterator[Remote]:
    """A node that drives runs of `identity` while the block lasts, and is listed nowhere.

    It listens on a free port of `host`; `address` is how participants reach it, where that is another. Without
    `listen` it has no port, and everybody, this program too, reaches it through its mailbox at the first of the
    `gateways`, or at a relay of the `network` without a centre of the `peers` at some addresses.
    """
    with tempfile.TemporaryDirectory(prefix="grid-coordinator-") as folder:
        settings = NodeSettings(
            "coordinator",
            Path(folder),
            host=host,
            port=0,
            address=address,
            listen=listen,
            gateways=() if listen else gateways[:1],
            dht=bool(peers) and not listen,
            bootstrap=peers,
            network=Belonging(network),
            label=token_hex(8),
        )
        async with embedded_node(settings, identity) as node:
            yield Remote(node.address, identity.id)
