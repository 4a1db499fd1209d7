"""Keeps a peer in its network: finds it again, looks after contacts, and remembers them over restarts."""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from grid.dht.peer import Peer
from grid.dht.table import K
from grid.dht.whole import Change
from grid.wire.names import Address
from grid.wire.problems import GridError, Unreachable

log = logging.getLogger(__name__)

TICK = 5.0
"""Seconds between looks at what is to be done."""
SHORTEST = 0.2
"""Seconds between two such looks at least, whoever calls."""
REFRESH = 3600.0
"""Seconds after which the far parts of the table are looked for anew."""
REMEMBER = 60.0
"""Seconds between two times that the contacts are written down."""
YOUNG, GROWN = 5.0, 120.0
"""Seconds between looks for neighbours where few are known: at first, and at most; each time twice as long."""
RECALL = 60.0
"""Seconds between two times that some are called whom this peer was named or knew, and who are no contacts."""
CALLED = 4
"""How many then."""
REMEMBERED = 10_000
PAUSES = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Seconds between tries to find the network; the last one repeats."""
KEPT = 200
"""Addresses that are remembered."""

_Addresses = Annotated[list[Address], msgspec.Meta(max_length=KEPT)]


class PeerCache:
    """Addresses of peers in a file: plain JSON, none of it believed before whoever answers there proved itself."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[str]:
        """The addresses; none if there is no file that can be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=_Addresses)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, RecursionError) as error:  # msgspec's errors are ValueErrors
            log.warning("%s is not read: %s", self._path, error)
            return []

    def save(self, addresses: Sequence[str]) -> None:
        """Write them down in place of those before."""
        handle, draft = tempfile.mkstemp(dir=self._path.parent, prefix=self._path.name)
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(list(addresses)[:KEPT]))
        Path(draft).replace(self._path)


class Upkeep:
    """One peer's place in its network. `bootstrap`: addresses of peers that are known beforehand."""

    # Whoever is named or was known is called again for ever: so two networks that meet at one peer become one, and the
    # halves of one that was split find each other when they can.

    def __init__(
        self,
        peer: Peer,
        bootstrap: Sequence[str],
        cache: PeerCache | None = None,
        *,
        pause: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._peer, self._bootstrap, self._cache, self._pause = peer, bootstrap, cache, pause or self._rest
        self._stirred = asyncio.Event()
        peer.answers.stir = self._stirred.set
        self._connecting = asyncio.Lock()
        self._knew, self._calls = 0, 0
        self._met = set[bytes]()
        self.noticed: Callable[[Change], Awaitable[None]] | None = None
        """What to do when the network seems to be split, or to be one again."""
        self.grown: Callable[[], Awaitable[None]] | None = None
        """What to do when peers came to a network that is small: until then it had too few to keep a record."""
        self._failures = 0

    async def connect(self) -> None:
        """Know somebody, if there is anybody to know.

        Raises:
            Unreachable: peers are named, or remembered, and none of them answers.
        """
        async with self._connecting:
            if len(self._peer.table):
                return
            own = self._peer.address()
            addresses = dict.fromkeys([*self._bootstrap, *(self._cache.load() if self._cache else ())])
            named = [address for address in addresses if address.rstrip("/") != (own or "").rstrip("/")]
            if named and not await self._peer.bootstrap(named) and self._bootstrap:
                raise Unreachable(f"no peer of the network answers at {', '.join(self._bootstrap)}")

    async def run(self) -> None:
        """Tend until cancelled."""
        loop = asyncio.get_running_loop()
        refreshed = looked = remembered = recalled = loop.time()
        pause = YOUNG
        while True:
            await self._pause(await self._once())
            if loop.time() - refreshed >= REFRESH:
                refreshed = loop.time()
                await self._peer.refresh()
            if len(self._peer.table) < K and loop.time() - looked >= pause:
                # Nobody calls a peer without a port: it learns of those who came after it by asking alone.
                looked, pause = loop.time(), min(2 * pause, GROWN)
                await self._peer.nearest(self._peer.answers.place)
            if loop.time() - remembered >= REMEMBER:
                remembered = loop.time()
                await self.remember()
            if loop.time() - recalled >= RECALL:
                recalled = loop.time()
                await self.recall()

    async def recall(self) -> None:
        """Call some that are no contacts; where one answers, those near it are met, and told of this peer."""
        peer = self._peer
        known = {contact.address.rstrip("/") for contact in peer.table} | {(peer.address() or "").rstrip("/")}
        some = [
            each for each in dict.fromkeys([*self._bootstrap, *peer.whole.addresses()]) if each.rstrip("/") not in known
        ]
        if not some:
            return
        turn, self._calls = self._calls % len(some), self._calls + CALLED
        silent = peer.whole.silent_ones()
        before = self._met - silent | {contact.id for contact in peer.table}
        met = await asyncio.gather(*(peer.meet(each) for each in (some[turn:] + some[:turn])[:CALLED]))
        new = {contact.id for contact in met if contact is not None} - before
        self._met = new | (self._met if len(self._met) < REMEMBERED else set())
        if new:
            await peer.refresh()
            if self.grown is not None:
                await self._announce_again(self.grown)

    async def _look(self) -> None:
        """Notice a split, and that it is over."""
        change = self._peer.whole.look(len(self._peer.table), self._peer.now())
        if change is None:
            return
        log.warning("%s", change)
        if self.noticed is not None:
            await self.noticed(change)

    async def _rest(self, seconds: float) -> None:
        """Until somebody is to be called back, but a moment at least, in which there may be others."""
        await asyncio.sleep(SHORTEST)
        try:
            async with asyncio.timeout(seconds - SHORTEST):
                await self._stirred.wait()
        except TimeoutError:
            return
        finally:
            self._stirred.clear()

    async def remember(self) -> None:
        """Write down whom this peer knows."""
        if self._cache is not None and len(self._peer.table):
            await asyncio.to_thread(self._cache.save, [contact.address for contact in self._peer.table])

    async def _once(self) -> float:
        """Do what is to be done; seconds until the next time."""
        await self._peer.tend()
        await self._look()
        try:
            await self.connect()
        except Unreachable as error:
            pause = PAUSES[min(self._failures, len(PAUSES) - 1)]
            self._failures += 1
            log.warning("alone in the network: %s (again in %.0f s)", error.detail, pause)
            return pause
        self._failures = 0
        knew, self._knew = self._knew, len(self._peer.table)
        if knew < min(self._knew, K) and self.grown is not None:
            await self._announce_again(self.grown)
        return TICK

    async def _announce_again(self, announce: Callable[[], Awaitable[None]]) -> None:
        try:
            await announce()
        except GridError as error:
            log.warning("the record of this node was not renewed: %s", error.detail)
