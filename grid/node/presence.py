"""Keeps a node listed in its directories: joins, renews, joins again when it was forgotten, leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from grid.crypto.identity import Identity
from grid.node.catalogue import Catalogue
from grid.node.keys import Prekeys
from grid.protocol.directory import Directory
from grid.protocol.documents import sign_document
from grid.wire.directory import NODE_RECORD, Join, Leave, NodeRecord, Renew
from grid.wire.problems import GridError, NotAMember

log = logging.getLogger(__name__)

RECORD_LIFE = 24 * 3600.0
"""Seconds for which a signed record of this node is valid."""

FRESH = RECORD_LIFE / 2
"""Seconds after which a record is signed anew, and the present prekey handed over with it."""

RENEWALS = 3
"""A lease is renewed when a third of it is over, so that one lost message does not end it."""

SHORTEST = 1.0
"""Seconds between renewals at least, whatever a directory says of its leases."""

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between tries to reach a directory that does not answer; the last one repeats."""


class Presence:
    """One node's presence in any number of directories, each on its own: none waits for another.

    `address` is where the node answers at this moment; `busy` whether it would rather not be asked for work;
    `audit` looks after a directory each time that it was told of us.
    """

    def __init__(
        self,
        identity: Identity,
        node_id: str,
        address: Callable[[], str],
        directories: Sequence[Directory],
        catalogue: Catalogue,
        prekeys: Prekeys,
        *,
        now: Callable[[], float],
        busy: Callable[[], bool],
        audit: Callable[[Directory], Awaitable[None]] | None = None,
    ) -> None:
        self._audit = audit
        self._identity, self._node_id, self._address = identity, node_id, address
        self._directories, self._catalogue, self._prekeys = directories, catalogue, prekeys
        self._now, self._busy = now, busy
        self._news = [asyncio.Event() for _ in directories]
        self._version = 0

    async def keep(self) -> None:
        """Stay listed everywhere until cancelled."""
        async with asyncio.TaskGroup() as group:
            for directory, news in zip(self._directories, self._news, strict=True):
                group.create_task(self._keep_in(directory, news))

    def advertise(self) -> None:
        """The tags changed, or the address: tell every directory now."""
        for news in self._news:
            news.set()

    async def leave(self) -> None:
        """Say good-bye everywhere, as far as anybody hears it."""
        leave = Leave(self._node_id, self._address())
        results = await asyncio.gather(*(d.leave(leave) for d in self._directories), return_exceptions=True)
        for result in results:
            if isinstance(result, GridError):
                log.info("could not leave: %s", result.detail)

    async def _keep_in(self, directory: Directory, news: asyncio.Event) -> None:
        failures, joined, signed = 0, False, 0.0
        while True:
            try:
                news.clear()
                if joined and self._now() - signed < FRESH:
                    lease = await self._renew(directory)
                else:
                    signed, lease = self._now(), await self._join(directory)
                wait, failures, joined = max(lease / RENEWALS, SHORTEST), 0, True
                await self._look(directory)
            except NotAMember:
                wait, joined = 0.0, False
            except GridError as error:
                wait = max(PAUSES[min(failures, len(PAUSES) - 1)], error.retry_after or 0.0)
                log.warning("cannot %s: %s (again in %.0f s)", "renew" if joined else "join", error.detail, wait)
                failures += 1
            joined = not await _rang(news, wait) and joined

    async def _look(self, directory: Directory) -> None:
        """Look after what the directory says of others and of us; what is wrong with it ends no membership."""
        try:
            if self._audit is not None:
                await self._audit(directory)
        except GridError as error:
            log.warning("the audit of a directory failed: %s", error.detail)

    async def _join(self, directory: Directory) -> float:
        joined = await directory.join(self._message())
        log.info("listed as %s, lease %.0f s", self._node_id, joined.lease)
        return joined.lease

    async def _renew(self, directory: Directory) -> float:
        return (await directory.renew(Renew(self._node_id, self._busy()))).lease

    def _message(self) -> Join:
        now, address = self._now(), self._address()
        self._version = max(self._version + 1, int(now * 1000))  # never the same twice, even within a millisecond
        record = NodeRecord(
            node_id=self._node_id,
            node_address=address,
            version=self._version,
            expires=now + RECORD_LIFE,
            tags=self._catalogue.tags(),
            public_key=self._identity.id,
        )
        signed = sign_document(self._identity, NODE_RECORD, record)
        return Join(self._node_id, address, signed, self._prekeys.published())


async def _rang(news: asyncio.Event, seconds: float) -> bool:
    """Wait for news, at most so long; whether there was any."""
    try:
        async with asyncio.timeout(seconds):
            await news.wait()
    except TimeoutError:
        return False
    return True
