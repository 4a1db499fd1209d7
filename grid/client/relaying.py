"""The port to a relay: what `Calls` asks of it where an address is that of a mailbox, and what it gets."""

from __future__ import annotations

from collections.abc import AsyncIterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from grid.client.core import Request
from grid.wire.endpoint import Endpoint
from grid.wire.problems import Unreachable

WORDS, STREAM = 30.0, 600.0
"""Seconds by which a call may take longer through a relay, where a stream travels whole, twice."""


class Content(Protocol):
    """The body of a response."""

    async def readany(self) -> bytes:
        """The next bytes; none at the end."""


class Response(Protocol):
    """As much of aiohttp's response as `Calls` looks at."""

    @property
    def status(self) -> int:
        """Of HTTP."""

    @property
    def headers(self) -> Mapping[str, str]:
        """By name, in any case."""

    @property
    def content(self) -> Content:
        """The body."""

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, where that is known."""

    def close(self) -> None:
        """Read no more of it."""


class Relayed(Protocol):
    """Puts calls in letters."""

    def ask(
        self, gateway: str, mailbox: str, sent: Request, body: AsyncIterable[bytes] | None, patience: float
    ) -> AbstractAsyncContextManager[Response]:
        """The response to a call; its caller waits for `patience` seconds.

        Raises:
            Unreachable: nobody reads this mailbox (not `connected` then), or its gateway does not answer.
            BadRequest: a stream of unknown length.
        """

    def instead(self, peer: bytes, address: str) -> str | None:
        """The address of `peer` to use in place of one where it could not be connected to a moment ago."""

    def forget(self, peer: bytes, address: str) -> None:
        """Try the address itself again."""

    async def box_of(self, peer: bytes, address: str) -> str | None:
        """Where else the holder of a key answers at this moment, for want of `address`: mostly a mailbox."""


def stretched(endpoint: Endpoint[object, object], seconds: float) -> float:
    """How long a call may take through a relay that may take so many seconds directly."""
    return seconds + (STREAM if endpoint.streams_in or endpoint.streams_out else WORDS)


def unconnected(detail: str) -> Unreachable:
    """The error of a call of which certainly nothing was sent."""
    error = Unreachable(detail)
    error.connected = False
    return error
