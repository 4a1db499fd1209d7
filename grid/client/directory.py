"""A gateway as a directory."""

from __future__ import annotations

from grid.client.calls import Calls
from grid.client.pins import Pins
from grid.protocol.transparency import check_grown, check_logged, longer, read_head
from grid.wire.directory import (
    DELETE_NODE,
    JOIN,
    MEMBER,
    RENEW,
    SEARCH,
    Found,
    Join,
    Joined,
    Leave,
    Member,
    Renew,
    Renewed,
    Search,
)
from grid.wire.documents import Signed
from grid.wire.log import HEADS, LOG_CONSISTENCY, LOG_HEAD, Sizes, TreeHead
from grid.wire.problems import BadRequest, LogForked
from grid.wire.session import IDENTITY


class GatewayDirectory:
    """The `Directory` that one gateway keeps. `address` is where it answers; what it is told goes over HTTP.

    It is not believed: the key of each member must be in its log, and its log may only grow, also from one program
    to the next that have `pins` in common.
    """

    def __init__(self, calls: Calls, address: str, pins: Pins | None = None) -> None:
        self._calls, self.address, self._pins = calls, address, pins
        self._key: str | None = None
        self._newest: Signed | None = None

    async def join(self, join: Join) -> Joined:
        """Be listed: see `Directory.join`."""
        return await self._calls.call(self.address, JOIN, join)

    async def renew(self, renew: Renew) -> Renewed:
        """Stay listed: see `Directory.renew`."""
        return await self._calls.call(self.address, RENEW, renew)

    async def leave(self, leave: Leave) -> None:
        """No longer be listed: see `Directory.leave`."""
        await self._calls.call(self.address, DELETE_NODE, leave, sign=True)

    async def search(self, search: Search) -> Found:
        """Which nodes have data with these tags."""
        return await self._calls.call(self.address, SEARCH, search)

    async def resolve(self, node_id: str) -> Member:
        """One member, with the record it signed, and shown to be in the gateway's log under that key.

        Raises:
            KeyForeign, LogForked: the log has it otherwise, or is not the one that was seen before.
            KeyChanged: another gateway answers at this address than before.
            NotAMember.
        """
        member = await self._calls.call(self.address, MEMBER, node_id=node_id)
        if member.record is not None:
            key = await self._gateway_key()
            check_logged(member.logged, node_id, member.record.signer, self.address, key)
            if member.logged is not None:
                await self._compare(member.logged.head, key)
        return member

    async def witness(self, node: str, peer: bytes) -> int:
        """Compare this gateway's log with what the node at an address, whose key is `peer`, was shown of it.

        Gives how many heads were compared: none if that node does not follow it.

        Raises:
            LogForked: the gateway shows that node another log.
            Unreachable, BadSignature: of the node.
        """
        key = await self._gateway_key()
        heads = (await self._calls.call(node, HEADS, peer=peer)).heads
        shown = [head for head in heads if head.signer == key]
        for head in (await self._calls.call(self.address, LOG_HEAD), *shown):
            await self._compare(head, key)
        return len(shown)

    async def _gateway_key(self) -> str:
        if self._key is None:
            answers = await self._calls.call(self.address, IDENTITY)
            if self._pins is not None:
                self._pins.meet(self.address.rstrip("/"), answers.public_key)
            self._key = answers.public_key
        return self._key

    async def _compare(self, shown: Signed, key: str) -> None:
        """The log at that head is the one that was seen before, further on. Answers may overtake one another."""
        head, before, place = read_head(shown, self.address, key), self._newest, self.address.rstrip("/")
        if self._pins is not None:  # other programs may have seen more of it meanwhile
            before = self._pins.seen(place)
        if before is not None:
            await self._check_grown(*sorted((head, read_head(before, self.address, key)), key=lambda one: one.size))
        if self._pins is not None:
            self._pins.saw(place, shown)
        self._newest = longer(shown, self._newest)

    async def _check_grown(self, old: TreeHead, new: TreeHead) -> None:
        path: tuple[bytes, ...] = ()
        if 0 < old.size < new.size:
            try:
                path = (await self._calls.call(self.address, LOG_CONSISTENCY, query=Sizes(old.size, new.size))).path
            except BadRequest as error:
                shown = f"{self.address} signed a log of {new.size} entries, and does not show it"
                raise LogForked(f"{shown}: {error.detail}") from None
        check_grown(old, new, path, self.address)
