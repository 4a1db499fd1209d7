"""What one caller asked for, sealed once and kept for a while: a download that breaks goes on in the same bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from grid.client.payload import once
from grid.crypto.prekeys import PrekeyPublic
from grid.store.blobs import Blobs, Draft
from grid.transport.parts import Parts, file_parts

LIFE = 600.0
"""Seconds for which an envelope waits for its reader to come back."""

WORTH = 1024 * 1024
"""Bytes: what is smaller is sealed for each request."""


class SealedOnce:
    """Envelopes in drafts: of each caller the last one, by its source and the prekey that it is wrapped for."""

    def __init__(self, blobs: Blobs, life: float = LIFE) -> None:
        self._blobs, self._life = blobs, life
        self._kept: dict[bytes, tuple[Path, bytes, Draft, asyncio.TimerHandle]] = {}

    async def parts(self, source: Path, recipient: PrekeyPublic, envelope: Iterable[bytes], size: int) -> Parts:
        """The envelope of `size` bytes around the file `source`, as it was sealed first. Raises Full."""
        if size < WORTH:
            whole = b"".join(envelope)
            return Parts(sha256(whole).hexdigest(), len(whole), lambda begin, end: once(whole[begin:end]))
        kept = self._kept.get(recipient.owner)
        if kept and kept[:2] == (source, recipient.id):
            draft = kept[2]
        else:
            draft = await self._sealed(envelope)
            self._forget(recipient.owner)
        if kept := self._kept.get(recipient.owner):
            kept[3].cancel()
        timer = asyncio.get_running_loop().call_later(self._life, self._forget, recipient.owner)
        self._kept[recipient.owner] = source, recipient.id, draft, timer
        return file_parts(draft.path, draft.digest)

    def close(self) -> None:
        """Throw them away."""
        for owner in tuple(self._kept):
            self._forget(owner)

    async def _sealed(self, envelope: Iterable[bytes]) -> Draft:
        draft = self._blobs.create()
        try:
            for block in envelope:
                draft.write(block)
                await asyncio.sleep(0)  # others have their turn between two blocks
        except BaseException:
            draft.abort()
            raise
        return draft

    def _forget(self, owner: bytes) -> None:
        if kept := self._kept.pop(owner, None):
            kept[2].abort()
            kept[3].cancel()
