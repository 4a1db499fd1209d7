"""One payload for many: encrypted once to a file, its key wrapped for each recipient that asks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from msgspec.structs import replace

from grid.client.payload import BLOCK, Bytes, sealed_size
from grid.crypto.envelope import Header
from grid.crypto.identity import Identity
from grid.crypto.prekeys import PrekeyPublic
from grid.crypto.sealing import RoundKey, seal_file, seal_parts


class Broadcast:
    """A sealed body in a file, and the key to give to those who may read it."""

    def __init__(self, key: RoundKey, path: Path) -> None:
        self._key, self.path = key, path
        self._preambles: dict[bytes, tuple[bytes, bytes]] = {}  # of each recipient: its prekey's id, and the bytes
        self.size = sealed_size(key.header, key)

    @classmethod
    async def seal(
        cls,
        identity: Identity,
        header: Header,
        source: Path | Sequence[Bytes],
        target: Path,
        over: Path | None = None,
    ) -> Broadcast:
        """Encrypt a file, or the parts of one, into `target`, beside the loop; the header's length is filled in.

        It may be written `over` a file that nobody needs any more.
        """
        if isinstance(source, Path):
            key = await asyncio.to_thread(seal_file, identity, header, source, target, over=over)
        else:
            whole = replace(header, length=sum(map(len, source)))
            key = await asyncio.to_thread(seal_parts, identity, whole, source, target, over=over)
        return cls(key, target)

    def tag(self, recipient: PrekeyPublic) -> str:
        """What names the bytes of this recipient's envelope, and no others.

        Its preamble holds the key, drawn for this body alone, wrapped with randomness of its own.
        """
        return hashlib.sha256(self._preamble(recipient)).hexdigest()[:32]

    async def envelope(self, recipient: PrekeyPublic, begin: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """The envelope for one recipient, `size` bytes, in blocks; or what lies from `begin` to `end` of it."""
        with self.path.open("rb", buffering=0) as file:  # before the first byte leaves: `discard` may come meanwhile
            head = self._preamble(recipient)
            end = self.size if end is None else end
            if begin < len(head):
                yield head[begin:end]
            at = max(begin, len(head))
            file.seek(at - len(head))
            while at < end and (block := file.read(min(BLOCK, end - at))):
                at += len(block)
                yield block

    def _preamble(self, recipient: PrekeyPublic) -> bytes:
        """The same for as long as the recipient keeps its prekey, so that an envelope can be had in parts."""
        prekey, made = self._preambles.get(recipient.owner, (b"", b""))
        if prekey != recipient.id:
            made = self._key.preamble([recipient])
            self._preambles[recipient.owner] = recipient.id, made
        return made

    def discard(self) -> None:
        """Nobody will ask any more. Whoever is still reading reads on."""
        self.path.unlink(missing_ok=True)
