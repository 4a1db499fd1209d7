"""Asking a node for access, and hearing what became of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

from grid.client.calls import Calls
from grid.wire import requests as wire
from grid.wire.runs import After

WAIT = 20.0
"""Seconds that one question for news waits at the node."""


class Office(NamedTuple):
    """A node at which requests are made: where it answers, and its key (32 bytes) if that is known."""

    address: str
    peer: bytes | None


class AsyncRequest:
    """A request of the caller's at a node."""

    def __init__(self, calls: Calls, office: Office, info: wire.RequestInfo) -> None:
        self._calls, self._office, self.info = calls, office, info

    @property
    def id(self) -> int:
        """Its number at the node."""
        return self.info.id

    @property
    def state(self) -> str:
        """As it was known last."""
        return self.info.state

    async def refresh(self) -> wire.RequestInfo:
        """As it is now."""
        self.info = await self._calls.call(self._office.address, wire.REQUEST, peer=self._office.peer, id=self.id)
        return self.info

    async def decided(self) -> wire.RequestInfo:
        """Wait until it is not pending any more: the node tells when."""
        cursor = 0
        while (await self.refresh()).state == "pending":
            told = await self._calls.call(
                self._office.address, wire.REQUEST_EVENTS, query=After(cursor, WAIT), peer=self._office.peer
            )
            cursor = told.after
        return self.info

    async def withdraw(self) -> wire.RequestInfo:
        """Take it back. Raises OutOfTurn where it was decided and used."""
        self.info = await self._calls.call(self._office.address, wire.WITHDRAW, peer=self._office.peer, id=self.id)
        return self.info


async def ask(calls: Calls, office: Office, asked: wire.Ask) -> AsyncRequest:
    """Ask a node for access. Raises RequestRefused, DatasetNotFound, NotAllowed."""
    return AsyncRequest(calls, office, await calls.call(office.address, wire.ASK, asked, peer=office.peer))


async def requests_at(calls: Calls, office: Office) -> list[AsyncRequest]:
    """The caller's requests at a node, newest first."""
    told = await calls.call(office.address, wire.REQUESTS, query=wire.Which(), peer=office.peer)
    return [AsyncRequest(calls, office, info) for info in told.requests]


async def news(calls: Calls, office: Office) -> AsyncIterator[dict[str, object]]:
    """What becomes of the caller's requests at a node, as it happens; without end."""
    cursor = 0
    while True:
        told = await calls.call(office.address, wire.REQUEST_EVENTS, query=After(cursor, WAIT), peer=office.peer)
        cursor = told.after
        for event in told.events:
            yield event.data
