"""Bodies that are too large, too slow, broken or compressed; and streams that are neither."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from hashlib import sha256

import aiohttp
import pytest

from grid.client.calls import Calls
from grid.crypto.session import SEALED_BODY, sign_request
from grid.wire.problems import TooLarge, Unreachable
from tests.transport.daemon import CUT, GET, NOW, PUT, Daemon

MakeCalls = Callable[..., Calls]
JSON = {"Content-Type": "application/json"}


async def pieces(size: int, piece: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, size, piece):
        yield bytes([start // piece % 251]) * min(piece, size - start)


async def digest(source: AsyncIterator[bytes]) -> str:
    total = sha256()
    async for block in source:
        total.update(block)
    return total.hexdigest()


async def refusal(http: aiohttp.ClientSession, url: str, data: bytes, headers: dict[str, str]) -> tuple[int, str]:
    async with http.post(url, data=data, headers=headers) as response:
        return response.status, json.loads(await response.read())["type"].rpartition(":")[2]


async def talk(daemon: Daemon, data: bytes) -> bytes:
    """Send raw bytes, and return what comes: a problem document, or all until the daemon hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(daemon.address.rpartition(":")[2]))
    writer.write(data)
    answer = b""
    with suppress(ConnectionResetError):
        async with asyncio.timeout(5):
            while not answer.endswith(b"}") and (part := await reader.read(65_536)):
                answer += part
    writer.close()
    return answer


def put_head(daemon: Daemon, *headers: str) -> bytes:
    proof = sign_request(daemon.alice, daemon.identity.public, "PUT", "/v1/blobs/x", SEALED_BODY, NOW, bytes(16))
    lines = ("PUT /v1/blobs/x HTTP/1.1", "Host: x", f"Authorization: {proof}", *headers, "", "")
    return "\r\n".join(lines).encode()


# --- messages -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "slug"),
    [
        (b"{", "bad-request"),
        (b"[" * 5000, "too-large"),
        (b"[" * 4000, "bad-request"),
        (b'{"said-words": 5}', "bad-request"),
        (b'{"said-words": "a", "more": 1}', "bad-request"),
        (b"\xff\xfe", "bad-request"),
        (b"", "bad-request"),
        (b'{"said-words": "' + b"a" * 5000 + b'"}', "too-large"),
    ],
)
async def test_a_bad_message_is_a_problem(daemon: Daemon, http: aiohttp.ClientSession, data: bytes, slug: str) -> None:
    assert (await refusal(http, f"{daemon.address}/echo", data, JSON))[1] == slug


@pytest.mark.parametrize("media", ["text/plain", "application/x-www-form-urlencoded", "application/xml"])
async def test_what_a_web_page_could_send_unasked_is_refused(
    daemon: Daemon, http: aiohttp.ClientSession, media: str
) -> None:
    headers = {"Content-Type": media, "Origin": "https://elsewhere.example"}
    said = await refusal(http, f"{daemon.address}/echo", b'{"said-words": "a"}', headers)

    assert said == (415, "unsupported-media-type")


async def test_curl_may_say_that_its_json_is_a_form(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    async with http.post(f"{daemon.address}/echo", data=b'{"said-words": "a"}', headers=headers) as response:
        assert response.status == 200


async def test_a_gzip_bomb_is_not_inflated(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    headers = JSON | {"Content-Encoding": "gzip"}

    assert await refusal(http, f"{daemon.address}/echo", b"\x1f\x8b", headers) == (415, "unsupported-encoding")


async def test_a_message_that_stalls_is_cut_off(daemon: Daemon) -> None:
    head = put_head(daemon, "Content-Length: 1000")

    answer = await talk(daemon, head + b"a few bytes")

    assert answer.startswith(b"HTTP/1.1 408")
    assert b"too-slow" in answer


async def test_a_head_that_never_ends_is_cut_off(daemon: Daemon) -> None:
    assert await talk(daemon, b"GET /identity HTTP/1.1\r\nHost: x\r\nX-Drip: ") == b""


async def test_a_million_headers_are_refused(daemon: Daemon) -> None:
    answer = await talk(daemon, b"GET /identity HTTP/1.1\r\n" + b"a: b\r\n" * 1_000_000)

    assert not answer or b" 400 Bad Request" in answer  # we may be cut off before we can read it


async def test_a_chunked_body_is_counted(daemon: Daemon) -> None:
    chunk = b"100000\r\n" + bytes(0x100000) + b"\r\n"

    assert b"too-large" in await talk(daemon, put_head(daemon, "Transfer-Encoding: chunked") + chunk * 4)


async def test_a_body_that_breaks_half_way_holds_nobody_up(daemon: Daemon) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(daemon.address.rpartition(":")[2]))
    writer.write(put_head(daemon, "Transfer-Encoding: chunked", "Expect: 100-continue"))
    assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
    writer.write(b"zz\r\nnonsense")
    answer = await reader.readuntil(b"}")
    writer.close()

    assert b"HTTP/1.1 408" in answer


async def test_too_large_a_body_is_refused_before_it_is_sent(daemon: Daemon) -> None:
    head = put_head(daemon, "Content-Length: 3000001", "Expect: 100-continue")

    answer = await talk(daemon, head)

    assert answer.startswith(b"HTTP/1.1 413")


# --- streams ------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 65_536, 2_500_001])
async def test_a_stream_arrives_as_it_was_sent(daemon: Daemon, calls: MakeCalls, length: int) -> None:
    wanted = await digest(pieces(length))
    alice = calls(daemon.alice)

    sized = await alice.upload(daemon.address, PUT, pieces(length), length=length, name="x")
    chunked = await alice.upload(daemon.address, PUT, pieces(length), name="x")

    assert (sized.words, sized.size) == (chunked.words, chunked.size) == (wanted, length)


@pytest.mark.parametrize("how", ["sized", "open"])
@pytest.mark.parametrize("length", [0, 1, 300_000, 2_500_001])
async def test_a_download_may_reuse_its_block(daemon: Daemon, calls: MakeCalls, how: str, length: int) -> None:
    async with calls().download(daemon.address, GET, name=f"{how}-{length}") as (said, blocks):
        got = await digest(blocks)

    assert got == await digest(pieces(length, 300_000))
    assert said == (length if how == "sized" else None)


async def test_a_stream_over_the_limit_is_refused(daemon: Daemon, calls: MakeCalls) -> None:
    with pytest.raises(TooLarge):
        await calls(daemon.alice).upload(daemon.address, PUT, pieces(3_000_001), length=3_000_001, name="x")
    with pytest.raises(TooLarge):
        await calls(daemon.alice).upload(daemon.address, PUT, pieces(4_000_000), name="x")


async def test_a_source_that_fails_never_looks_whole(daemon: Daemon, calls: MakeCalls) -> None:
    with pytest.raises(Unreachable):
        async with calls().download(daemon.address, GET, name="fails-900000") as (_, blocks):
            await digest(blocks)


async def test_a_reader_that_stops_is_cut_off(daemon: Daemon) -> None:
    port = int(daemon.address.rpartition(":")[2])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /v1/blobs/sized-100000000 HTTP/1.1\r\nHost: x\r\n\r\n")

    assert (await reader.readexactly(15)) == b"HTTP/1.1 200 OK"
    async with asyncio.timeout(5):
        await daemon.app[CUT].wait()
    writer.close()
