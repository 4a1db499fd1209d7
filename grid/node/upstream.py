"""A run's coordinator, as a participant reaches it: patiently, for it may be away, and come back elsewhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import TypeVar

from grid.client.handing_in import hand_in, named_by
from grid.client.payload import once, open_tensors, opened, read_prekey, seal_message
from grid.crypto.envelope import Context
from grid.crypto.identity import public_from_id
from grid.crypto.prekeys import PrekeyPublic
from grid.crypto.sealing import Opener
from grid.learning.tensors import Layout
from grid.node.means import Means
from grid.store.blobs import Blobs
from grid.wire.endpoint import Endpoint, Stream
from grid.wire.node import PREKEY
from grid.wire.problems import (
    Draining,
    GridError,
    PlanRefused,
    PrekeyUnknown,
    RoundClosed,
    RunNotFound,
    Unreachable,
    UpdateRepeated,
)
from grid.wire.runs import BUNDLE, MODEL, REPORT, RUN_EVENTS, UPDATE, UPDATE_HELD, After, Event, Fetch, Report, Task

log = logging.getLogger(__name__)

T = TypeVar("T")
Takes = TypeVar("Takes")
Gives = TypeVar("Gives")

WAIT = 25.0
"""Seconds for which one long-poll stays open."""

PAUSES = (0.2, 0.5, 1.0, 2.0, 3.0)
"""Seconds between tries to reach a coordinator that does not answer; the last one again and again."""

AWAY = 600.0
"""Seconds after which a run is given up whose coordinator does not answer; before that if its task expires."""

PASSING = (Unreachable, Draining)
"""What a coordinator that is being restarted looks like."""


class Upstream:
    """The coordinator of one run. `key` is its public key; its address and its prekey may change."""

    def __init__(self, means: Means, task: Task, address: str, prekey: PrekeyPublic | None) -> None:
        self._means, self._task, self._address, self._prekey = means, task, address, prekey
        self.key = public_from_id(task.coordinator)
        self._found = asyncio.Event()
        self._unsaid: tuple[int, Report] | None = None

    def moved(self, address: str, prekey: PrekeyPublic) -> None:
        """The coordinator is there again, perhaps elsewhere."""
        self._address, self._prekey = address, prekey
        found, self._found = self._found, asyncio.Event()
        found.set()

    def forget_prekey(self) -> None:
        """The coordinator does not hold its prekey any more: ask for the newest before anything is sealed again."""
        self._prekey = None

    # --- what is asked for ------------------------------------------------------------------------

    async def events(self, cursor: int) -> list[Event]:
        """What happened behind a cursor; if nothing has, it waits `WAIT` seconds for the next."""
        query = After(cursor, WAIT)
        answer = await self._patiently(
            lambda: self._means.calls.call(self._address, RUN_EVENTS, query=query, peer=self.key, run=self._task.run)
        )
        return list(answer.events)

    async def bundle(self, blobs: Blobs, name: str) -> Path:
        """The plan, checked against the digest that the scientist signed: a file of `blobs`.

        Raises:
            PlanRefused: it is another one.
        """
        return await self._patiently(lambda: self._bundle(blobs, name))

    async def model(self, number: int, layout: Layout, into: memoryview) -> None:
        """The model of a round, as it travels, into memory of `layout.size` bytes."""

        async def once_more() -> None:
            async with self._fetched(MODEL, number, "model") as (opener, blocks):
                await open_tensors(opener, blocks, layout, into)

        await self._patiently(once_more)

    async def recipient(self) -> PrekeyPublic:
        """Its prekey, asked for anew in the second half of its time: it makes a new one each day."""
        return await self._patiently(self._recipient)

    async def ask(self, endpoint: Endpoint[Takes, Gives], message: Takes | None, number: int, sum_: int) -> Gives:
        """A step of a secure sum."""
        return await self._patiently(
            lambda: self._means.calls.call(
                self._address, endpoint, message, peer=self.key, run=self._task.run, round=number, sum=sum_
            )
        )

    # --- what is handed in ------------------------------------------------------------------------

    async def report(self, number: int, report: Report) -> None:
        """Tell how it went. A coordinator that stays away, or no longer wants to know, hears it from our silence.

        Training need not wait for one that is away: what was measured then is told when the update is handed in.
        """
        with suppress(RoundClosed, RunNotFound, *PASSING):
            if report.status != "evaluated":
                await self._patiently(lambda: self._say(number, report))
                return
            self._unsaid = number, report
            await self._say_what_is_left()

    async def update(self, number: int, path: Path) -> int:
        """Hand in the sealed update in a file; the round that counted it, 0 if an earlier copy of it was counted."""
        return await self._patiently(lambda: self._update(number, path))

    async def _say_what_is_left(self) -> None:
        if self._unsaid is None:
            return
        (number, report), self._unsaid = self._unsaid, None
        try:
            await self._say(number, report)
        except PASSING:
            self._unsaid = number, report
            raise
        except (RoundClosed, RunNotFound) as late:
            log.info("run %s round %d: %s", self._task.run, number, late.detail)

    async def _update(self, number: int, path: Path) -> int:
        await self._say_what_is_left()
        counted, content = 0, named_by(path)
        try:
            answer = await hand_in(
                self._means.calls,
                self._address,
                UPDATE,
                UPDATE_HELD,
                path,
                peer=self.key,
                content=content,
                run=self._task.run,
                round=number,
            )
            counted = answer.round
        except UpdateRepeated as repeated:
            if repeated.retry_after:
                raise  # its first copy is arriving at this moment
        log.info("run %s round %d: counted", self._task.run, number)  # perhaps a while ago, and the answer was lost
        return counted

    async def _bundle(self, blobs: Blobs, name: str) -> Path:
        draft = blobs.create()
        try:
            async with self._fetched(BUNDLE, 0, "bundle") as (opener, blocks):
                async for piece in opened(opener, blocks):
                    draft.write(piece)
            if draft.digest != self._task.plan:
                raise PlanRefused("the coordinator's plan is not the one that the scientist signed")
            return await draft.commit(name)
        except BaseException:
            draft.abort()
            raise

    @asynccontextmanager
    async def _fetched(
        self, endpoint: Endpoint[Fetch, Stream], number: int, kind: str
    ) -> AsyncIterator[tuple[Opener, AsyncIterator[bytes]]]:
        context = Context(run=self._task.run, round=number, kind=kind, sender=self.key)
        opener = Opener(self._means.identity.public, self._means.prekeys.find, context, self._means.now())
        fetch = Fetch(self._means.prekeys.published())
        where = {"round": number} if "round" in endpoint.parameters else {}
        async with self._means.calls.download(
            self._address, endpoint, fetch, peer=self.key, run=self._task.run, **where
        ) as (_, blocks):
            yield opener, blocks

    async def _recipient(self) -> PrekeyPublic:
        held, now = self._prekey, self._means.now()
        if held is None or 2 * now > held.not_before + held.not_after:
            try:
                newest = await self._means.calls.call(self._address, PREKEY, peer=self.key)
                self._prekey = held = read_prekey(newest.prekey, self.key, now)
            except PASSING:
                if held is None or now >= held.not_after:
                    raise
        return held

    async def _say(self, number: int, report: Report) -> None:
        try:
            await self._tell(number, report)
        except PrekeyUnknown:
            self._prekey = None
            await self._tell(number, report)

    async def _tell(self, number: int, report: Report) -> None:
        header = self._means.header("report", self._task.run, number, audience=self.key)
        envelope = seal_message(self._means.identity, header, report, await self._recipient())
        await self._means.calls.upload(
            self._address,
            REPORT,
            once(envelope),
            length=len(envelope),
            peer=self.key,
            run=self._task.run,
            round=number,
        )

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """What the coordinator answers. It may be away for a while."""
        until = min(self._means.now() + AWAY, self._task.expires)
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            try:
                return await ask()
            except GridError as error:
                passing = isinstance(error, PASSING) or (isinstance(error, UpdateRepeated) and error.retry_after)
                if not passing or self._means.now() + pause > until:
                    raise
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._found.wait()
        raise AssertionError("unreachable")
