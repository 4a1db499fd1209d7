"""A stream that is had in parts."""

from __future__ import annotations

import aiohttp
import pytest

from tests.transport.daemon import Daemon, content


@pytest.mark.parametrize(
    ("headers", "status", "part", "said"),
    [
        ({}, 200, (0, 1000), None),
        ({"Range": "bytes=900-"}, 206, (900, 1000), "bytes 900-999/1000"),
        ({"Range": "bytes=10-19"}, 206, (10, 20), "bytes 10-19/1000"),
        ({"Range": "bytes=900-", "If-Range": '"tag"'}, 206, (900, 1000), "bytes 900-999/1000"),
        ({"Range": "bytes=900-", "If-Range": '"another"'}, 200, (0, 1000), None),
        ({"Range": "bytes=900-", "If-Range": 'W/"tag"'}, 200, (0, 1000), None),
        ({"Range": "bytes=1-2,5-6"}, 200, (0, 1000), None),
    ],
)
async def test_what_is_asked_for_comes(
    daemon: Daemon,
    http: aiohttp.ClientSession,
    headers: dict[str, str],
    status: int,
    part: tuple[int, int],
    said: str | None,
) -> None:
    async with http.get(f"{daemon.address}/v1/parts/1000", headers=headers) as response:
        assert (response.status, response.headers.get("Content-Range")) == (status, said)
        assert (response.headers["ETag"], response.headers["Accept-Ranges"]) == ('"tag"', "bytes")
        assert await response.read() == content(1000)[slice(*part)]


async def test_what_is_not_there_is_refused(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{daemon.address}/v1/parts/1000", headers={"Range": "bytes=1000-"}) as response:
        assert (response.status, b"range-unsatisfiable" in await response.read()) == (416, True)
