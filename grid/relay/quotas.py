"""How much of a relay's room each sender and each recipient of letters may use: reserved before a body is read."""

from __future__ import annotations

from collections import Counter

from grid.wire.problems import MailboxFull, QuotaSpent

ROOM = 16 * 1024**3
"""Bytes of letters that wait at a relay."""

SHARE = 2
"""One sender, and one recipient, may use one part in so many of the room."""

LETTERS = 100_000
"""Letters of one sender, or for one recipient, that wait or were taken and are kept in mind until they expire."""

LATER = 5.0
"""Seconds after which it is worth trying again."""


class Quotas:
    """Bytes that wait and letters that are known, by who sent them and whom they are for (public keys)."""

    def __init__(self, room: int = ROOM, letters: int = LETTERS) -> None:
        self._room, self._share, self._letters = room, max(1, room // SHARE), letters
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._count: Counter[tuple[str, str]] = Counter()
        self.total = 0

    def reserve(self, sender: str, recipient: str, size: int) -> None:
        """Room for one letter.

        Raises:
            QuotaSpent: the sender has none left.
            MailboxFull: the recipient, or the relay, has none left.
        """
        if not self._fits("from", sender, size):
            raise QuotaSpent(retry_after=LATER)
        if not self._fits("to", recipient, size) or self.total + size > self._room:
            raise MailboxFull(retry_after=LATER)
        self.take_over(sender, recipient, size)

    def take_over(self, sender: str, recipient: str, size: int) -> None:
        """Count a letter that is here, whether or not there is room."""
        for party in (("from", sender), ("to", recipient)):
            self._bytes[party] += size
            self._count[party] += 1
        self.total += size

    def taken(self, sender: str, recipient: str, size: int) -> None:
        """The bytes of a letter are gone; it is still known."""
        for party in (("from", sender), ("to", recipient)):
            _less(self._bytes, party, size)
        self.total -= size

    def forgotten(self, sender: str, recipient: str) -> None:
        """A letter whose bytes are gone is no longer known."""
        for party in (("from", sender), ("to", recipient)):
            _less(self._count, party, 1)

    def _fits(self, way: str, who: str, size: int) -> bool:
        party = (way, who)
        return self._bytes[party] + size <= self._share and self._count[party] < self._letters


def _less(counter: Counter[tuple[str, str]], party: tuple[str, str], size: int) -> None:
    counter[party] -= size
    if counter[party] <= 0:  # whoever has nothing here costs nothing
        del counter[party]
