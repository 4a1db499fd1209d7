"""Several directories as one, in order of preference: where one does not answer, the next one does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from grid.protocol.directory import Directory
from grid.wire.directory import Found, Join, Joined, Leave, Member, Renew, Renewed, Search
from grid.wire.problems import GridError, NotAMember, Unreachable

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE = 1.5
"""Seconds that a directory has while there is another to ask; a search by way of the second takes less than three."""
REST = 10.0
"""Seconds for which one that did not answer is asked last."""


class Preferring:
    """The `Directory` that is made of others, the preferred one first.

    A search is answered by the first that answers and finds somebody, a name by the first that knows it. To be listed
    is to be listed by all that can be reached.
    """

    def __init__(self, directories: Sequence[Directory], now: Callable[[], float]) -> None:
        assert directories
        self._directories, self._now = list(directories), now
        self._silent: dict[int, float] = {}  # until when which one is asked last

    async def join(self, join: Join) -> Joined:
        """Be listed by all: see `Directory.join`. Raises what the last one did if none lists it."""
        return min(await self._by_all(lambda each: each.join(join)), key=lambda joined: joined.lease)

    async def renew(self, renew: Renew) -> Renewed:
        """Stay listed: see `Directory.renew`. One that forgot the node has it join again."""
        answers = await asyncio.gather(*(each.renew(renew) for each in self._directories), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, NotAMember):
                raise answer
        return min(_good(answers), key=lambda renewed: renewed.lease)

    async def leave(self, leave: Leave) -> None:
        """No longer be listed by any: see `Directory.leave`."""
        await self._by_all(lambda each: each.leave(leave))

    async def search(self, search: Search) -> Found:
        """Which nodes have data with these tags, as the first says that knows of any."""
        return await self._first(lambda each: each.search(search), lambda found: bool(found.node_addresses))

    async def resolve(self, node_id: str) -> Member:
        """One member, as the first says that knows it: see `Directory.resolve`."""
        return await self._first(lambda each: each.resolve(node_id), lambda _: True)

    async def witness(self, node: str, peer: bytes) -> int:
        """Compare what each tells with what it told a node: see `Directory.witness`."""
        return sum(await self._by_all(lambda each: each.witness(node, peer)))

    async def _by_all(self, say: Callable[[Directory], Awaitable[T]]) -> list[T]:
        return _good(await asyncio.gather(*map(say, self._directories), return_exceptions=True))

    async def _first(self, ask: Callable[[Directory], Awaitable[T]], enough: Callable[[T], bool]) -> T:
        """The first answer that is enough, else the first answer; raises what the last one did if there is none."""
        order = sorted(range(len(self._directories)), key=lambda index: self._silent.get(index, 0.0) > self._now())
        answers, failure = list[T](), GridError()
        for turn, index in enumerate(order):
            try:
                async with asyncio.timeout(PATIENCE if turn + 1 < len(order) else None):
                    answers.append(await ask(self._directories[index]))
            except TimeoutError:
                failure = Unreachable("a directory did not answer in time")
                self._rests(index, failure)
            except GridError as error:
                failure = error
                if error.status >= 500:
                    self._rests(index, error)
            else:
                if enough(answers[-1]):
                    return answers[-1]
        if not answers:
            raise failure
        return answers[0]

    def _rests(self, index: int, error: GridError) -> None:
        self._silent[index] = self._now() + REST
        log.warning("directory %d of %d is asked last for a while: %s", index + 1, len(self._directories), error.detail)


def _good(answers: Sequence[T | BaseException]) -> list[T]:
    """The answers among what came; raises what came if there is none."""
    good = [answer for answer in answers if not isinstance(answer, BaseException)]
    for answer in answers:
        if isinstance(answer, BaseException) and (not good or not isinstance(answer, GridError)):
            raise answer
    return good
