"""Answers calls that came in letters: each is put to the node's own application, on a socket of this machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from grid.client.egress import LOCAL, open_local
from grid.client.letters import ANSWERED, SMALL, Body, Call, some, spool
from grid.store import answered as rows
from grid.store.database import Database
from grid.transport.auth import Authenticator
from grid.transport.feed import SSE
from grid.wire.problems import TooLarge, Unreachable
from grid.wire.relay import LETTER_LIMIT

_NO_TIMEOUT = aiohttp.ClientTimeout(total=None)  # whoever asks says how long it waits: see `client.relay`


class Answering:
    """Puts calls to the application that answers on `socket`; `auth` takes our word for who sent them.

    So a call in a letter is a call like any other: the same handlers, limits and refusals.
    """

    def __init__(self, socket: Path, auth: Authenticator) -> None:
        self._auth = auth
        self._http = open_local(str(socket))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def __call__(self, sender: bytes, call: Call, body: Body) -> tuple[int, dict[str, str], Body]:
        """The answer to a call of the holder of the key `sender`. Raises Unreachable while the node stops."""
        data = await body.whole() if body.size <= SMALL else body
        with self._auth.vouching(sender) as authorization:
            headers = {**call.headers, "Authorization": authorization}
            if SSE in headers.get("Accept", ""):  # a stream that goes on does not fit into a letter; a long-poll does
                del headers["Accept"]
            if body.size:
                headers["Content-Length"] = str(body.size)
            try:
                async with self._http.request(
                    call.method,
                    URL(LOCAL + call.target, encoded=True),
                    headers=headers,
                    data=data if body.size else None,
                    allow_redirects=False,
                    timeout=_NO_TIMEOUT,
                ) as response:
                    return response.status, some(response.headers, ANSWERED), await _spooled(response)
            except (aiohttp.ClientError, OSError) as error:
                raise Unreachable(str(error) or type(error).__name__) from None


async def _spooled(response: aiohttp.ClientResponse) -> Body:
    """The body of a response, in a file that is in memory while it is small."""
    file, size = spool(), 0
    try:
        async for block in response.content.iter_any():
            size += len(block)
            if size > LETTER_LIMIT:
                raise TooLarge("the answer does not fit into a letter")
            file.write(block)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return Body(file, size)


class AnsweredLetters:
    """Which letters were answered, in the node's database: see `grid.client.relay.Answered`."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    async def has(self, letter: str) -> bool:
        """Whether this one was."""
        return await self._database.read(lambda connection: rows.has(connection, letter))

    async def add(self, letter: str, expires: float) -> None:
        """It is answered, and nobody takes it in after `expires`."""
        now = self._now()
        await self._database.write(lambda connection: rows.add(connection, letter, expires, now))
