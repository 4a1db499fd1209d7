"""Uploads that broke off, kept for a while so that their sender goes on where it was.

Only in memory and drafts: a daemon that is restarted has forgotten them, and the sender begins anew.
"""

from __future__ import annotations

import asyncio
from typing import Generic, Protocol, TypeVar

from grid.wire.problems import BadRequest, PartMismatch, TooSlow
from grid.wire.ranges import Held, Piece

LIFE = 600.0
"""Seconds for which the beginning of an upload waits for the rest."""

BROKEN = (asyncio.CancelledError, ConnectionError, TooSlow, BadRequest)
"""What an upload ends with whose connection breaks. Its bytes are proved at the end, whatever ended the connection."""


class Arriving(Protocol):
    """What has come so far."""

    @property
    def size(self) -> int:
        """How many bytes."""

    @property
    def digest(self) -> str:
        """Their SHA-256, hexadecimal."""

    def abort(self) -> None:
        """Throw them away."""


T = TypeVar("T", bound=Arriving)


class Partials(Generic[T]):
    """The beginnings of uploads: one for each place, by the digest of the whole."""

    def __init__(self, life: float = LIFE) -> None:
        self._life, self._closed = life, False
        self._kept: dict[str, tuple[str, T, asyncio.TimerHandle]] = {}

    def held(self, place: str, content: str) -> Held:
        """How much of an upload waits here."""
        kept = self._kept.get(place)
        return Held(kept[1].size if kept and kept[0] == content else 0)

    def take(self, place: str, piece: Piece) -> T | None:
        """What `piece` goes on with; None where it begins, which forgets what was there.

        Raises:
            PartMismatch: it begins behind, or before, the end of what is here.
        """
        if piece.begin:
            if (size := self.held(place, piece.content).size) != piece.begin:
                raise PartMismatch(f"{size} bytes of this upload are here")
            _, what, timer = self._kept.pop(place)
            timer.cancel()
            return what
        self._forget(place)
        return None

    def keep(self, place: str, piece: Piece, what: T, error: BaseException) -> None:
        """Keep what came until `error` broke the upload off, if that was the connection and its sender can go on."""
        self._forget(place)
        if self._closed or not piece.content or not what.size or not isinstance(error, BROKEN):
            what.abort()
            return
        timer = asyncio.get_running_loop().call_later(self._life, self._forget, place)
        self._kept[place] = piece.content, what, timer

    def close(self) -> None:
        """Throw everything away, also what breaks off from here on."""
        self._closed = True
        for place in tuple(self._kept):
            self._forget(place)

    def _forget(self, place: str) -> None:
        if kept := self._kept.pop(place, None):
            kept[1].abort()
            kept[2].cancel()


def proved(piece: Piece, what: Arriving) -> None:
    """Whether what came is what its digest says. Raises BadRequest."""
    if piece.content and what.digest != piece.content:
        raise BadRequest("what came is not what its digest says")
