"""A bad line to a daemon: passes bytes on, counts them, and breaks after as many as a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Line:
    """`down` and `up` count the bytes towards caller and daemon; `cuts_down` and `cuts_up` are those that
    may pass until the connection that carries the last of them is cut, one number for each cut."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.address = ""
        self.moved = {"down": 0, "up": 0}
        self.cuts: dict[str, list[int]] = {"down": [], "up": []}
        self.connections = 0
        self.taped: list[bytearray] | None = None

    def tape(self) -> None:
        """Keep all that moves from now on, each way of each connection for itself."""
        self.taped = []

    def cut(self, way: str, *after: int) -> None:
        """Cut `down` or `up` after so many bytes from now, and from that cut on after so many more."""
        self.cuts[way] = list(after)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        near = reader, writer
        far = await asyncio.open_connection("127.0.0.1", self._port)
        ways = [asyncio.ensure_future(self._pass(near[0], far[1], "up"))]
        ways += [asyncio.ensure_future(self._pass(far[0], near[1], "down"))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            near[1].transport.abort()
            far[1].transport.abort()

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, way: str) -> None:
        kept = bytearray()
        if self.taped is not None:
            self.taped.append(kept)
        while block := await source.read(16_384):
            if self.taped is not None:
                kept += block
            cuts = self.cuts[way]
            if cuts and cuts[0] <= len(block):
                block = block[: cuts.pop(0)]
                self.moved[way] += len(block)
                sink.write(block)
                await sink.drain()
                return
            if cuts:
                cuts[0] -= len(block)
            self.moved[way] += len(block)
            sink.write(block)
            await sink.drain()


@asynccontextmanager
async def a_line(address: str) -> AsyncIterator[Line]:
    """A line to the daemon at an address."""
    line = Line(int(address.rpartition(":")[2]))
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield line
    finally:
        server.close()
