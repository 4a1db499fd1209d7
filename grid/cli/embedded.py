"""A coordinator inside a notebook's own process, for scientists who have no node to ask."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path

from grid.cli.assemble import NodeSettings, embedded_node
from grid.client.grid import Remote
from grid.crypto.identity import Identity


class Embedded:
    """Starts the coordinator when it is first needed; `stack` ends it. `address`: how participants reach it."""

    def __init__(self, identity: Identity, stack: AsyncExitStack, host: str, address: str | None) -> None:
        self._identity, self._stack, self._host, self._address = identity, stack, host, address
        self._running: Remote | None = None

    async def __call__(self) -> Remote:
        """The coordinator: where it answers, and its key, which is the scientist's own."""
        if self._running is None:
            folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="grid-coordinator-"))
            settings = NodeSettings("coordinator", Path(folder), host=self._host, port=0, address=self._address)
            node = await self._stack.enter_async_context(embedded_node(settings, self._identity))
            self._running = Remote(node.address, self._identity.id)
        return self._running
