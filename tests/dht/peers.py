"""Whole nodes in one network without a centre, and nowhere else."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from grid.cli.assemble import Chores, Listing
from grid.crypto.identity import Identity
from grid.dht.peer import Peer
from tests.grid_of_nodes import ANode, Learner, a_node

ME = Identity.from_seed(b"owner".ljust(32))
"""Whoever owns all of them, and trains there."""


class Peers:
    """Starts nodes that are in one network, and nowhere else."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._first = folder, tuple[str, ...]()
        self._stacks: dict[str, AsyncExitStack] = {}

    async def start(
        self, name: str, learner: Learner | None = None, *, trust: tuple[str, ...] = (), **more: Any
    ) -> ANode:
        """A node that is reached, and listed in the network."""
        first = more.pop("bootstrap", self._first)
        settings: dict[str, Any] = {"dht": True, "bootstrap": first, **more}
        node = await a_node(name, self._folder / name, learner, trust=(ME.id, *trust), owners=(ME.id,), **settings)
        stack = self._stacks[name] = AsyncExitStack()
        stack.push_async_callback(node.stop)
        chores = await stack.enter_async_context(Chores())
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        Listing(node.open, chores, ready.set_result).begin(node.open.here)
        async with asyncio.timeout(20):
            node.address = await ready
        if not self._first:
            self._first = (node.address,)
        return node

    async def kill(self, name: str) -> None:
        """It is gone, and says nothing to anybody."""
        await self._stacks.pop(name).aclose()

    async def end(self) -> None:
        for name in reversed(list(self._stacks)):
            await self.kill(name)


def peer_of(node: ANode) -> Peer:
    """A node as its network knows it."""
    assert node.open.reach.network is not None
    return node.open.reach.network.peer
