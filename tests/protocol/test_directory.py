from __future__ import annotations

from grid.protocol.directory import Directory
from grid.wire.directory import Found, Join, Joined, Leave, Member, Renew, Renewed, Search
from grid.wire.problems import NotAMember


class OneRoom:
    """The smallest directory there is: it fits the port, which mypy checks below."""

    def __init__(self) -> None:
        self._addresses: dict[str, str] = {}

    async def join(self, join: Join) -> Joined:
        self._addresses[join.node_id] = join.node_address
        return Joined(message="welcome", state="joining", lease=90.0, verified=False)

    async def renew(self, renew: Renew) -> Renewed:
        return Renewed(state="online", lease=90.0)

    async def leave(self, leave: Leave) -> None:
        del self._addresses[leave.node_id]

    async def search(self, search: Search) -> Found:
        return Found(node_addresses=tuple(self._addresses.items()))

    async def resolve(self, node_id: str) -> Member:
        raise NotAMember


async def test_whatever_fits_the_port_is_a_directory() -> None:
    directory: Directory = OneRoom()

    await directory.join(Join(node_id="alpha", node_address="http://alpha:5001"))

    assert (await directory.search(Search(query=("#mnist",)))).node_addresses == (("alpha", "http://alpha:5001"),)
