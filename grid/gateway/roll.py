"""The roll: every member in memory, and the indexes over those that may be found."""

from __future__ import annotations

from bisect import bisect, bisect_left, insort
from collections.abc import Iterator

from msgspec import Struct

from grid.gateway.claim import Claim
from grid.gateway.index import TagIndex
from grid.protocol.membership import LISTED, SUSPECT, Member


class Listed(Struct, gc=False):
    """A member as the gateway holds it: its state and its word on itself.

    `reached`: the gateway's own checks were answered at this address; the last `misses` in a row were not;
    `renewed`: it renewed its lease since the last of them.
    """

    member: Member
    claim: Claim
    reached: bool = False
    misses: int = 0
    renewed: bool = False

    @property
    def found(self) -> bool:
        """Whether a search may name it."""
        return self.member.state in LISTED

    @property
    def found_at(self) -> tuple[str, str]:
        """Its id and address, as an answer names it."""
        return self.claim.node_id, self.claim.node_address

    @property
    def rank(self) -> tuple[bool, str]:
        """Its place in an answer: suspects last, else by id."""
        return self.member.state == SUSPECT, self.claim.node_id


class Roll:
    """Members by id. `tags` and `models` name those that may be found, `mute` those of them that signed nothing."""

    def __init__(self) -> None:
        self.tags, self.models = TagIndex(), TagIndex()
        self.mute: set[str] = set()
        self._members: dict[str, Listed] = {}
        self._order: list[str] = []  # ids, sorted

    def place(self, listed: Listed) -> None:
        """Put a member on the roll, in place of the one that had its id."""
        self.remove(listed.claim.node_id)
        self._members[listed.claim.node_id] = listed
        insort(self._order, listed.claim.node_id)
        if listed.found:
            self._show(listed.claim)

    def remove(self, node_id: str) -> None:
        """Take a member off the roll, if it is there."""
        if listed := self._members.pop(node_id, None):
            del self._order[bisect_left(self._order, node_id)]
            self._hide(listed.claim)

    def update(self, listed: Listed, member: Member) -> None:
        """Give a member on the roll its new state."""
        was = listed.found
        listed.member = member
        if was != listed.found:
            (self._hide if was else self._show)(listed.claim)

    def get(self, node_id: str) -> Listed | None:
        """A member, in whatever state."""
        return self._members.get(node_id)

    def page(self, after: str, limit: int) -> list[Listed]:
        """Members in order of id, those behind `after`, at most `limit`."""
        start = bisect(self._order, after)
        return [self._members[node_id] for node_id in self._order[start : start + limit]]

    def found(self) -> int:
        """How many members a search may name."""
        return sum(listed.found for listed in self._members.values())

    def __iter__(self) -> Iterator[Listed]:
        return (self._members[node_id] for node_id in self._order)

    def __len__(self) -> int:
        return len(self._members)

    def _show(self, claim: Claim) -> None:
        self.tags.add(claim.node_id, claim.tags)
        self.models.add(claim.node_id, claim.models)
        if claim.record is None:
            self.mute.add(claim.node_id)

    def _hide(self, claim: Claim) -> None:
        self.tags.remove(claim.node_id, claim.tags)
        self.models.remove(claim.node_id, claim.models)
        self.mute.discard(claim.node_id)
