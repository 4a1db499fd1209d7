"""Where a node without a port is reached: its mailbox at a relay, and at another one once that is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from grid.client.mailbox import Mailbox
from grid.client.relay import Relay
from grid.wire.problems import GridError, Unreachable
from grid.wire.relay import mailbox_address

log = logging.getLogger(__name__)

OPENING = 10.0
"""Seconds that a relay has to open a mailbox."""

PAUSES = (0.5, 1.0, 2.0, 5.0)
"""Seconds between two looks for a relay where there was none; the last one repeats."""

Relays = Callable[[], Awaitable[Sequence[str]]]
"""Where relays are, as a network without a centre says, the preferred one first."""


class Berth:
    """One node's place at a relay: at one of its `gateways`, the first that can be; else at one that `relays` finds."""

    def __init__(self, relay: Relay, gateways: Sequence[str], relays: Relays | None = None) -> None:
        self._relay, self._gateways, self._relays = relay, gateways, relays
        self._box: Mailbox | None = None

    async def find(self) -> str:
        """The address of a mailbox that is open. Raises Unreachable where no relay opens one."""
        for gateway in await self._candidates():
            if (box := await self._open(gateway)) is not None:
                if self._box is not None and self._box.gateway != gateway:
                    self._relay.reads_no_more(self._box.gateway)
                self._box = box
                return mailbox_address(gateway, self._relay.name)
        raise Unreachable("no relay opens a mailbox for this node")

    async def keep(self, moved: Callable[[str], None], before: str = "") -> None:
        """Have an open mailbox until cancelled: `moved` gets its address, and each later one; not that of `before`."""
        failures = 0
        while True:
            if self._box is not None:
                await self._box.lost.wait()
            try:
                address = await self.find()
            except GridError as error:
                pause = PAUSES[min(failures, len(PAUSES) - 1)]
                log.warning("nobody can write to this node: %s (again in %.0f s)", error.detail, pause)
                failures += 1
                await asyncio.sleep(pause)
                continue
            failures = 0
            if address != before:
                log.info("letters are read at %s", address)
                moved(address)
            before = address

    async def _candidates(self) -> list[str]:
        """Where to try: the present relay too, if it is back."""
        lost = None if self._box is None else self._box.gateway
        some = [each for each in self._gateways if each != lost]
        if self._relays is not None:
            try:
                some += [each for each in await self._relays() if each not in {lost, *some}]
            except GridError as error:
                log.info("no relay was found: %s", error.detail)
        return some if lost is None else [*some, lost]

    async def _open(self, gateway: str) -> Mailbox | None:
        try:
            box = self._relay.reads(gateway)
            async with asyncio.timeout(OPENING):
                if await box.usable():
                    return box
        except (GridError, TimeoutError):
            pass
        self._relay.reads_no_more(gateway)
        return None
