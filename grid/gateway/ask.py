"""One small question to a member: short, bounded, never redirected, and no answer is an answer too."""

from __future__ import annotations

import asyncio
from time import monotonic
from types import TracebackType
from typing import NamedTuple, Protocol

import aiohttp

from grid.wire.message import JSON
from grid.wire.problems import GridError

MOST = 8 * 1024
"""Bytes of an answer that are read; whoever sends more has not answered."""


class Answer(NamedTuple):
    """What a member answered, after `latency` seconds."""

    status: int
    body: bytes
    latency: float


class Ask(Protocol):
    """The port to members: None stands for no answer within `deadline` seconds, or none worth reading."""

    async def __call__(self, method: str, url: str, body: bytes | None = None, *, deadline: float) -> Answer | None:
        """Ask one member."""


class HttpAsk:
    """Asks over HTTP, through a connector that goes only where the gateway may (see `grid.client.egress`)."""

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        self._http = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=MOST,
            max_line_size=MOST,
            max_field_size=MOST,
            headers={"Accept": JSON, "Accept-Encoding": "identity", "User-Agent": "grid-gateway"},
        )

    async def __aenter__(self) -> HttpAsk:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def __call__(self, method: str, url: str, body: bytes | None = None, *, deadline: float) -> Answer | None:
        """Ask one member."""
        began = monotonic()
        try:
            async with asyncio.timeout(deadline):
                return await self._ask(method, url, body, began)
        except (aiohttp.ClientError, OSError, ValueError, GridError):  # TimeoutError is an OSError
            return None

    async def _ask(self, method: str, url: str, body: bytes | None, began: float) -> Answer | None:
        headers = {"Content-Type": JSON} if body is not None else {}
        async with self._http.request(method, url, data=body, headers=headers, allow_redirects=False) as response:
            if (response.content_length or 0) > MOST or "Content-Encoding" in response.headers:
                response.close()  # not `release`: nothing more is read
                return None
            received = bytearray()
            async for block in response.content.iter_any():
                received += block
                if len(received) > MOST:
                    response.close()
                    return None
            return Answer(response.status, bytes(received), monotonic() - began)


def url_of(address: str, path: str) -> str:
    """Where a member listed with `address` answers to `path`."""
    return address.rstrip("/") + path
