"""A letter as it comes in: proved to be its sender's on the way, in memory while it is small, else in a file."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256

from grid.crypto import errors
from grid.crypto.encoding import b64
from grid.crypto.envelope import EnvelopeCheck, Header
from grid.store.blobs import Blobs, Draft
from grid.wire.problems import BadRequest, EnvelopeRefused
from grid.wire.relay import INLINE


class Arrival:
    """The bytes of one letter so far; they can wait for the rest (see `transport.partial`).

    `release` gives back the room that was reserved for it: when it is thrown away, or by whoever refuses it at the end.
    """

    def __init__(self, sender: str, recipient: str, blobs: Blobs, now: float, release: Callable[[], None]) -> None:
        self._check = EnvelopeCheck(_meant(sender, recipient), now)
        self._blobs, self._release = blobs, release
        self._sha, self._small = sha256(), bytearray()
        self._draft: Draft | None = None
        self.size = 0

    @property
    def digest(self) -> str:
        """SHA-256 of what came so far, hexadecimal."""
        return self._sha.hexdigest()

    @property
    def body(self) -> bytes | None:
        """All of it, where it is small."""
        return bytes(self._small) if self._draft is None else None

    def write(self, block: bytes) -> None:
        """The next bytes. Raises EnvelopeRefused, Full."""
        try:
            self._check.feed(block)
        except errors.EnvelopeRefused as error:
            raise EnvelopeRefused(str(error)) from None
        self._sha.update(block)
        self.size += len(block)
        if self._draft is not None:
            self._draft.write(block)
        elif self.size <= INLINE:
            self._small += block
        else:
            self._draft = self._blobs.create()
            self._draft.write(self._small)
            self._draft.write(block)
            self._small.clear()

    async def finish(self, letter: str, name: str) -> Header:
        """Prove all of it; what is not small is on disk then, under `name`.

        Raises:
            BadRequest: its SHA-256 is not `letter`.
            EnvelopeRefused: it is not whole, or not signed by its sender.
        """
        if self.digest != letter:
            raise BadRequest("what came is not what its digest says")
        try:
            header = self._check.finish()
        except errors.EnvelopeRefused as error:
            raise EnvelopeRefused(str(error)) from None
        if self._draft is not None:
            await self._draft.commit(name)
        return header

    def abort(self) -> None:
        """Throw it away."""
        if self._draft is not None:
            self._draft.abort()
        self._release()


def _meant(sender: str, recipient: str) -> Callable[[Header], None]:
    """Refuses envelopes of somebody else than the one who posts them, or for somebody else."""

    def expect(header: Header) -> None:
        if b64(header.sender) != sender:
            raise errors.EnvelopeRefused("wrong-context", "it is not signed by the one who posts it")
        if b64(header.audience) != recipient:
            raise errors.EnvelopeRefused("wrong-recipient", "it is not for the holder of this mailbox")

    return expect
