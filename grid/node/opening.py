"""An envelope that is opened as it comes, and whose opening can wait for the rest of it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from hashlib import sha256

from grid.client.payload import opened
from grid.crypto.sealing import Opener
from grid.store.blobs import Draft


class Opening:
    """An envelope that is opened into a draft as it comes. What came so far can wait for the rest."""

    def __init__(self, opener: Opener, draft: Draft) -> None:
        self._opener, self.draft = opener, draft
        self._sha = sha256()
        self.size = 0

    @property
    def digest(self) -> str:
        """Of the envelope so far, hexadecimal."""
        return self._sha.hexdigest()

    async def take(self, blocks: AsyncIterable[bytes]) -> None:
        """The rest of the envelope. Raises EnvelopeRefused, PrekeyUnknown, and what `blocks` raises."""
        async for piece in opened(self._opener, self._counted(blocks)):
            self.draft.write(piece)

    def abort(self) -> None:
        """Throw it away."""
        self.draft.abort()

    async def _counted(self, blocks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        async for block in blocks:  # whole blocks: only between two of them can an upload break off
            self.size += len(block)
            self._sha.update(block)
            yield block
