"""Whether the network is whole, as far as one peer can see: how many of those it knew fell silent together.

A peer cannot tell half a network that went down from half a network that it is cut off from. It says what it sees.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

WINDOW = 600.0
"""Seconds within which those who fall silent fall silent together: each contact is asked after within half of it."""
SHARE = 1 / 3
"""Of those that a peer knew. Where peers stay for half an hour, a fifth goes in ten minutes."""
LEAST = 2
GIVEN_UP = 3600.0
"""Seconds after which those who did not come back are gone, and what is left is the network."""
REMEMBERED = 200


@dataclass(frozen=True)
class Change:
    """The network is split, or no longer is: `silent` of `known` peers do not answer, since about `since`."""

    split: bool
    silent: int
    known: int
    since: float

    def __str__(self) -> str:
        if self.split:
            return f"the network may be split: {self.silent} of {self.known} peers that this node knew fell silent"
        return f"the network is one again: {self.silent} of {self.known} peers that this node knew are silent"


class Whole:
    """Keeps count of those who fell silent. Times are UTC seconds."""

    def __init__(self) -> None:
        self._silent: OrderedDict[bytes, tuple[str, float]] = OrderedDict()  # where each answered, and when no more
        self.since: float | None = None

    def lost(self, peer: bytes, address: str, now: float) -> None:
        """A contact does not answer."""
        self._silent[peer] = address, now
        self._silent.move_to_end(peer)
        if len(self._silent) > REMEMBERED:
            self._silent.popitem(last=False)

    def heard(self, peer: bytes) -> bool:
        """A peer answers; whether it had fallen silent."""
        return self._silent.pop(peer, None) is not None

    @property
    def silent(self) -> int:
        """How many are missing from a network that is split; 0 where it is whole."""
        return 0 if self.since is None else len(self._after(self.since - WINDOW))

    def silent_ones(self) -> set[bytes]:
        """Who fell silent and did not come back."""
        return set(self._silent)

    def addresses(self) -> list[str]:
        """Where those who fell silent answered: they may again."""
        return [address for address, _ in self._silent.values()]

    def look(self, contacts: int, now: float) -> Change | None:
        """What changed, where so many `contacts` do answer."""
        if self.since is None:
            silent = len(self._after(now - WINDOW))
            if silent < LEAST or silent < SHARE * (contacts + silent):
                return None
            self.since = now
            return Change(True, silent, contacts + silent, now)
        silent, since = self.silent, self.since
        if now - since < GIVEN_UP and silent >= LEAST and silent >= SHARE / 2 * (contacts + silent):
            return None
        self.since = None
        if now - since >= GIVEN_UP:
            self._silent.clear()
        return Change(False, silent, contacts + silent, since)

    def _after(self, moment: float) -> list[bytes]:
        return [peer for peer, (_, when) in self._silent.items() if when > moment]
