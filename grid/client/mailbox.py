"""Reads one mailbox at one gateway: opens it, hears of letters, and has them taken out once they were dealt with."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from grid.client.calls import Calls
from grid.client.payload import once
from grid.crypto.identity import public_from_id
from grid.crypto.prekeys import Prekey
from grid.wire.node import Published
from grid.wire.problems import GridError, MailboxFull, NotFound, Unreachable
from grid.wire.relay import (
    LETTER,
    LETTER_LIMIT,
    LETTERS,
    LONGEST_WAIT,
    OPEN_MAILBOX,
    TAKE_LETTERS,
    Reading,
    Taken,
    key_of,
)
from grid.wire.runs import Event

log = logging.getLogger(__name__)

WAIT = 55.0
"""Seconds for which a long-poll stays open at first: many proxies cut a line that is quiet for a minute."""

AGAIN = 20.0
"""Seconds more in which the answer to one has to come."""

PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds between tries to reach a gateway that does not answer; the last one repeats."""

NO_RELAY = 60.0
"""Seconds between tries at a gateway that relays nothing."""

REOPEN = 3600.0
"""Seconds after which a mailbox is opened again, although its prekey is the same."""

GATHER = 0.05
"""Seconds for which letters that were dealt with are gathered into one message."""

LOST = 3.0
"""Seconds after which a relay that does not answer is taken to be gone."""

AT_ONCE = 1024
"""Letters that are dealt with at once; others wait at the gateway."""


class Prekeys(Protocol):
    """What others seal to and this side opens."""

    def published(self) -> bytes:
        """The present prekey, signed and dated."""

    def find(self, prekey_id: bytes) -> Prekey | None:
        """The secret half of a prekey, if it is still held."""


Heard = Callable[["Waiting"], Awaitable[None]]
"""Deals with one letter. When it returns, the letter may go."""


class Patience:
    """For how many seconds (`wait`) the next long-poll may stay open: twice as long after each that nothing cut.

    `spread`, from 0 to 1, is one mailbox's own: those that began together do not all ask again together. Where a line
    broke that was quiet for longer than `WAIT`, none is for the next hour.
    """

    def __init__(self, spread: float) -> None:
        self.wait, self._longest, self._careful = WAIT, LONGEST_WAIT * (1 - spread / 4), 0.0

    def kept(self, now: float) -> None:
        """A poll was quiet, and came to its end."""
        if now >= self._careful:
            self.wait = min(2 * self.wait, self._longest)

    def broke(self, held: float, now: float) -> None:
        """A poll broke that had been open for so long."""
        if held > WAIT:
            self._careful = now + REOPEN
        self.wait = WAIT


class Waiting:
    """A letter that waits at a gateway."""

    def __init__(self, calls: Calls, gateway: str, mailbox: str, event: Event) -> None:
        self._calls, self.gateway, self._mailbox, self._data = calls, gateway, mailbox, event.data
        self.name = str(event.data.get("letter", ""))

    @asynccontextmanager
    async def blocks(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """Its bytes. Raises NotFound once it is gone, Unreachable."""
        if (body := self._data.get("body")) is not None:
            yield once(base64.b64decode(body))
            return
        async with self._calls.download(
            self.gateway, LETTER, limit=LETTER_LIMIT, mailbox=self._mailbox, letter=self.name
        ) as (_, blocks):
            yield blocks


class Mailbox:
    """The mailbox `name` at `gateway`. `read` runs for as long as it is read; `opened` is set once it is.

    `lost` is set for as long as nothing is heard of the gateway, or it relays nothing; `gone` is called then.
    """

    def __init__(
        self,
        calls: Calls,
        gateway: str,
        name: str,
        prekeys: Prekeys,
        heard: Heard,
        gone: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._gone = gone
        self._calls, self.gateway, self.name = calls, gateway, name
        self._prekeys, self._heard = prekeys, heard
        self._known: set[str] = set()  # being dealt with, or waiting to be taken out
        self._done: list[str] = []
        self._some_done = asyncio.Event()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._patience = Patience(public_from_id(key_of(name))[0] / 255)
        self.opened, self.lost = asyncio.Event(), asyncio.Event()
        self._reading: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Read no more."""
        if self._reading is not None:
            self._reading.cancel()

    async def usable(self) -> bool:
        """Wait until it is open, or its gateway is lost; whether it is open."""
        either = [asyncio.ensure_future(event.wait()) for event in (self.opened, self.lost)]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in either:
                each.cancel()
        return not self.lost.is_set()

    async def read(self) -> None:
        """Deal with every letter, until cancelled."""
        self._reading = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take_out())
            failures, cursor, published, when, since = 0, 0, b"", 0.0, 0.0
            loop = asyncio.get_running_loop()
            while True:
                try:
                    if (newest := self._prekeys.published()) != published or loop.time() - when > REOPEN:
                        await self._open(newest)
                        published, when = newest, loop.time()
                    cursor = await self._listen(group, cursor)
                    failures = 0
                except GridError as error:
                    since = since if failures else loop.time()
                    if isinstance(error, (NotFound, MailboxFull)) or loop.time() - since >= LOST:
                        self._lose()
                    pause = NO_RELAY if isinstance(error, NotFound) else PAUSES[min(failures, len(PAUSES) - 1)]
                    if not failures:
                        log.info("no letters from %s: %s", self.gateway, error.detail)
                    # It may be another gateway when it is back: all that waits is told again, and opened again.
                    failures, cursor, published = failures + 1, 0, b""
                    await asyncio.sleep(pause)
                except Exception:
                    log.exception("letters from %s", self.gateway)
                    await asyncio.sleep(PAUSES[-1])

    async def _open(self, published: bytes) -> None:
        await self._calls.call(self.gateway, OPEN_MAILBOX, Published(published), mailbox=self.name)
        self.lost.clear()
        self.opened.set()

    def _lose(self) -> None:
        if not self.lost.is_set():
            self.opened.clear()
            self.lost.set()
            self._gone(self.gateway)

    async def _listen(self, group: asyncio.TaskGroup, cursor: int) -> int:
        """Begin to deal with what waits behind a cursor; the cursor of the last of it."""
        loop, wait = asyncio.get_running_loop(), self._patience.wait
        began = loop.time()
        try:
            events = await self._hear(Reading(cursor, wait))
        except GridError:
            self._patience.broke(loop.time() - began, loop.time())
            raise
        for event in events:
            letter = Waiting(self._calls, self.gateway, self.name, event)
            if letter.name not in self._known:
                await self._slots.acquire()
                self._known.add(letter.name)
                group.create_task(self._deal_with(letter))
        if events:
            return events[-1].cursor
        if (quiet := loop.time() - began) < 1.0:
            raise Unreachable("the gateway is shutting down")
        if quiet > wait / 2:  # a gateway lets long ones end together
            self._patience.kept(loop.time())
        return cursor

    async def _hear(self, query: Reading) -> tuple[Event, ...]:
        said = await self._calls.call(
            self.gateway, LETTERS, query=query, deadline=query.wait + AGAIN, mailbox=self.name
        )
        return said.events

    async def _deal_with(self, letter: Waiting) -> None:
        try:
            while True:
                try:
                    await self._heard(letter)
                except Unreachable:  # its bytes, or whoever is to hear of it: it still waits
                    await asyncio.sleep(PAUSES[-1])
                    continue
                except NotFound:
                    pass
                except GridError as error:
                    log.warning("letter %s: %s", letter.name, error.detail)
                except Exception:
                    log.exception("letter %s", letter.name)
                break
        finally:
            self._slots.release()
        self._done.append(letter.name)
        self._some_done.set()

    async def _take_out(self) -> None:
        while True:
            await self._some_done.wait()
            await asyncio.sleep(GATHER)
            self._some_done.clear()
            done = tuple(self._done[:1000])
            try:
                await self._calls.call(self.gateway, TAKE_LETTERS, Taken(done), mailbox=self.name)
            except GridError:
                self._some_done.set()
                await asyncio.sleep(PAUSES[-1])
                continue
            del self._done[: len(done)]
            self._known.difference_update(done)
            if self._done:
                self._some_done.set()
