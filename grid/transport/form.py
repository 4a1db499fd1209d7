"""A form with files (multipart/form-data), streamed: bounded, on time, and from no page in a browser."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import BodyPartReader, web

from grid.transport.body import IDLE, METRICS
from grid.wire.endpoint import Endpoint
from grid.wire.problems import BadRequest, TooLarge, TooSlow, UnsupportedMediaType

BLOCK = 256 * 1024
FIELD = 4096
"""Bytes of a field that is no file."""
FIELDS = 32
"""Fields and files of one form."""


class Field:
    """One field of a form: its name, and whether it is a file."""

    def __init__(self, part: BodyPartReader, request: web.Request, taken: list[int], limit: int) -> None:
        self.name, self.is_file = part.name or "", part.filename is not None
        self._part, self._request, self._taken, self._limit = part, request, taken, limit

    async def blocks(self) -> AsyncIterator[bytes]:
        """Its bytes as they come. Raises TooLarge, TooSlow, BadRequest."""
        while True:
            try:
                async with asyncio.timeout(IDLE):
                    block = await self._part.read_chunk(BLOCK)
            except TimeoutError:
                raise TooSlow("the form stands still") from None
            except ValueError as error:
                raise BadRequest(f"not a form: {error}") from None
            if not block:
                return
            self._taken[0] += len(block)
            if self._taken[0] > self._limit:
                raise TooLarge(f"{self._limit} bytes are taken")
            self._request.app[METRICS].received += len(block)
            yield block

    async def text(self) -> str:
        """What a field that is no file says. Raises as `blocks` does."""
        said = bytearray()
        async for block in self.blocks():
            said += block
            if len(said) > FIELD:
                raise TooLarge(f"a field has at most {FIELD} bytes")
        return said.decode(errors="replace")


async def fields(request: web.Request, endpoint: Endpoint[Any, Any]) -> AsyncIterator[Field]:
    """The fields of a form in the order in which they come; each is to be read before the next.

    Raises:
        UnsupportedMediaType: not such a form, or sent by a page in a browser, which may be anybody's.
        BadRequest, TooLarge, TooSlow
    """
    headers = request.headers
    if request.content_type != "multipart/form-data" or "Origin" in headers or "Sec-Fetch-Site" in headers:
        raise UnsupportedMediaType("send multipart/form-data, and not from a page")
    taken, count = [0], 0
    try:
        reader = await request.multipart()
        while True:
            async with asyncio.timeout(IDLE):
                part = await reader.next()
            if part is None:
                return
            count += 1
            if not isinstance(part, BodyPartReader) or count > FIELDS or "Content-Encoding" in part.headers:
                raise BadRequest("a form has plain fields and files, and few of them")
            yield Field(part, request, taken, endpoint.limit)
    except TimeoutError:
        raise TooSlow("the form stands still") from None
    except (ValueError, AssertionError) as error:
        raise BadRequest(f"not a form: {error}") from None
