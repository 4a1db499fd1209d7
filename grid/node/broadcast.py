"""One payload for many: encrypted once to a file, its key wrapped for each recipient that asks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from grid.client.payload import BLOCK, sealed_size
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import PrekeyPublic
from grid.crypto.sealing import RoundKey, seal_file


class Broadcast:
    """A sealed body in a file, and the key to give to those who may read it."""

    def __init__(self, key: RoundKey, path: Path) -> None:
        self._key, self._path = key, path
        self.size = sealed_size(key.header, key)

    @classmethod
    async def seal(cls, identity: Identity, header: Header, source: Path, target: Path) -> Broadcast:
        """Encrypt the file `source` into `target`, beside the loop; the header's length is filled in."""
        return cls(await asyncio.to_thread(seal_file, identity, header, source, target), target)

    async def envelope(self, recipient: PrekeyPublic) -> AsyncIterator[bytes]:
        """The whole envelope for one recipient, `size` bytes, in blocks."""
        with self._path.open("rb", buffering=0) as file:  # before the first byte leaves: `discard` may come meanwhile
            yield self._key.preamble([recipient])
            while block := file.read(BLOCK):
                yield block

    def discard(self) -> None:
        """Nobody will ask any more. Whoever is still reading reads on."""
        self._path.unlink(missing_ok=True)
