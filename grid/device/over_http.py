"""Requests by Python's own library, each in a thread, so that a device waits for nobody but itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from grid.device.device import Ask

DEADLINE = 60.0
"""Seconds without a byte after which an answer is not waited for any more."""


def over_http(address: str) -> Ask:
    """How a device speaks to the node at `address`. Raises ValueError: that is none."""
    if not address.startswith(("http://", "https://")):
        raise ValueError("an address begins with http:// or https://")

    def one(method: str, path: str, body: bytes) -> tuple[int, bytes]:
        url, words = address.rstrip("/") + path, {"Content-Type": "application/json"}
        request = Request(url, body or None, words, method=method)  # noqa: S310 - http or https, see above
        try:
            with urlopen(request, timeout=DEADLINE) as answer:  # noqa: S310 - http or https, see above
                return answer.status, answer.read()
        except HTTPError as error:
            return error.code, error.read()
        except HTTPException as error:
            raise ConnectionError(str(error)) from None

    async def ask(method: str, path: str, body: Sequence[bytes] = ()) -> tuple[int, bytes]:
        return await asyncio.to_thread(one, method, path, b"".join(body))

    return ask
