"""The port that every directory fulfils: a gateway, a network without a centre, several in order of preference."""

from __future__ import annotations

from typing import Protocol

from grid.wire.directory import Found, Join, Joined, Leave, Member, Renew, Renewed, Search


class Directory(Protocol):
    """Where nodes are listed and found. Every call has a deadline of its own and raises `GridError`."""

    async def join(self, join: Join) -> Joined:
        """Be listed. Raises NodeIdTaken, StaleRecord, AddressRefused, UnsignedJoinRefused, Unreachable."""

    async def renew(self, renew: Renew) -> Renewed:
        """Stay listed. Raises NotAMember (join again), Unreachable."""

    async def leave(self, leave: Leave) -> None:
        """No longer be listed. Raises NotAMember, Unreachable."""

    async def search(self, search: Search) -> Found:
        """Which nodes have data with these tags."""

    async def resolve(self, node_id: str) -> Member:
        """One member, with the record it signed. Raises NotAMember."""

    async def witness(self, node: str, peer: bytes) -> int:
        """Compare what this directory tells us with what it told the node at an address, whose key is `peer`.

        How many proofs were compared: 0 where it gives none, or that node asked for none. Raises LogForked.
        """
