"""A log, heard in three ways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

from grid.client.calls import Calls
from grid.client.egress import Egress, open_http
from grid.crypto.identity import Identity
from grid.transport.app import create_app
from grid.transport.auth import Authenticator
from grid.transport.feed import Terms, listen, told
from grid.transport.metrics import Metrics
from grid.transport.serve import running
from grid.wire.endpoint import Endpoint
from grid.wire.problems import RunNotFound
from grid.wire.runs import After, Event, Events

LOG: Endpoint[None, Events] = Endpoint("GET", "/v1/log", gives=Events, query=After, entry=Event)
SSE = {"Accept": "text/event-stream"}


class Log:
    """Entries, and whoever waits for more."""

    def __init__(self, **terms: float) -> None:
        self.entries: list[Event] = []
        self.terms = Terms(**terms)
        self.refuses = self.closed = False
        self.left = asyncio.Event()
        self._more = asyncio.Event()
        self.address = ""

    def add(self, kind: str, **data: Any) -> None:
        self.entries.append(Event(len(self.entries) + 1, kind, 5.0, data))
        self._more.set()

    def close(self) -> None:
        self.closed = True
        self._more.set()

    async def read(self, after: After) -> Events:
        if self.refuses:
            raise RunNotFound
        if len(self.entries) <= after.after and after.wait and not self.closed:
            self._more.clear()
            await asyncio.wait([asyncio.ensure_future(self._more.wait())], timeout=after.wait)
        found = tuple(self.entries[after.after :])
        return Events(found, found[-1].cursor if found else after.after)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        try:
            return await listen(request, LOG, self.read, last="end", terms=self.terms)
        finally:
            self.left.set()


@asynccontextmanager
async def kept(log: Log) -> AsyncIterator[tuple[Log, aiohttp.ClientSession]]:
    """A daemon that lets the log be heard."""
    auth = Authenticator(Identity.from_seed(bytes(32)), lambda: 0.0)
    app = create_app({LOG: log}, auth=auth, metrics=Metrics(), about="A log")
    async with asyncio.timeout(20), running(app) as log.address, open_http(Egress(allow_private=True)) as http:
        yield log, http


async def heard(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, str]]:
    """The fields of each block of a stream of server-sent events."""
    fields: dict[str, str] = {}
    async for line in response.content:
        word, _, value = line.decode().rstrip("\n").partition(":")
        if line == b"\n":
            yield fields
            fields = {}
        else:
            fields[word] = value.strip()


async def entries(response: aiohttp.ClientResponse) -> list[dict[str, str]]:
    return [fields async for fields in heard(response) if "id" in fields]


async def test_whoever_asks_for_nothing_special_polls() -> None:
    async with kept(Log()) as (log, http):
        log.add("first")

        assert await Calls(http).call(log.address, LOG) == Events(tuple(log.entries), 1)


async def test_server_sent_events_come_as_they_happen() -> None:
    async with kept(Log()) as (log, http), http.get(log.address + LOG.path, headers=SSE) as response:
        assert response.content_type == "text/event-stream"
        stream = heard(response)
        assert await anext(stream) == {"retry": "1000"}
        log.add("first", words="a\nb")
        one = await anext(stream)
        log.add("second")
        two = await anext(stream)

    assert (one["id"], one["event"], two["id"]) == ("1", "first", "2")
    assert json.loads(one["data"]) == {"cursor": 1, "kind": "first", "at": 5.0, "data": {"words": "a\nb"}}


async def test_a_reader_goes_on_after_the_last_entry_it_heard() -> None:
    async with kept(Log()) as (log, http):
        for kind in ("first", "second", "end"):
            log.add(kind)
        async with http.get(log.address + LOG.path + "?after=2", headers=SSE) as response:
            by_query = await entries(response)
        async with http.get(log.address + LOG.path, headers=SSE | {"Last-Event-ID": "1"}) as response:
            by_header = await entries(response)

    assert [each["event"] for each in by_query] == ["end"]
    assert [each["event"] for each in by_header] == ["second", "end"]


@pytest.mark.parametrize("cursor", ["x", "-1", "9" * 30, "1.5"])
async def test_a_cursor_that_is_none_is_refused(cursor: str) -> None:
    headers = SSE | {"Last-Event-ID": cursor}
    async with kept(Log()) as (log, http), http.get(log.address + LOG.path, headers=headers) as response:
        assert response.status == 400


async def test_a_refusal_comes_before_the_stream() -> None:
    async with kept(Log()) as (log, http):
        log.refuses = True
        async with http.get(log.address + LOG.path, headers=SSE) as response:
            assert (response.status, b"run-not-found" in await response.read()) == (404, True)
        with pytest.raises(aiohttp.WSServerHandshakeError, match="404"):
            await http.ws_connect(log.address + LOG.path)


async def test_a_refusal_later_breaks_the_stream() -> None:
    async with kept(Log()) as (log, http), http.get(log.address + LOG.path, headers=SSE) as response:
        log.refuses = True
        log.add("first")
        log.add("second")
        with pytest.raises(aiohttp.ClientError):
            await response.read()


async def test_silence_is_filled_with_signs_of_life_until_the_stream_has_lived() -> None:
    short = Log(beat=0.05, life=0.2)
    async with kept(short) as (log, http), http.get(log.address + LOG.path, headers=SSE) as response:
        blocks = [fields async for fields in heard(response)]

    assert blocks[0] == {"retry": "1000"}
    assert len(blocks) >= 3
    assert all(block == {"": ""} for block in blocks[1:])


async def test_a_log_that_closes_lets_its_readers_go() -> None:
    async with kept(Log()) as (log, http):
        async with http.get(log.address + LOG.path, headers=SSE) as response:
            log.close()
            assert await entries(response) == []
        async with http.ws_connect(log.address + LOG.path) as socket:
            assert (await socket.receive()).type == WSMsgType.CLOSE
            assert socket.close_code == 1001


async def test_a_reader_that_hangs_up_is_forgotten() -> None:
    async with kept(Log()) as (log, http):
        async with http.get(log.address + LOG.path, headers=SSE):
            pass
        await log.left.wait()


@pytest.mark.parametrize("upgrade", ["Accept: text/event-stream", "Upgrade: websocket"])
async def test_a_reader_that_does_not_read_is_cut_off(upgrade: str) -> None:
    async with kept(Log(patience=0.2)) as (log, _):
        for _number in range(200):
            log.add("long", words="x" * 100_000)
        _, writer = await asyncio.open_connection("127.0.0.1", int(log.address.rpartition(":")[2]), limit=1024)
        key = "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + "A" * 22 + "=="
        writer.write(f"GET {LOG.path} HTTP/1.1\r\nHost: x\r\n{upgrade}\r\n{key}\r\n\r\n".encode())

        await log.left.wait()
        writer.close()


async def test_a_websocket_tells_each_entry_and_ends_with_the_log() -> None:
    async with kept(Log()) as (log, http), http.ws_connect(log.address + LOG.path + "?after=1") as socket:
        for kind in ("first", "second", "end"):
            log.add(kind)
        messages = [json.loads(message.data) async for message in socket]

    assert [(each["cursor"], each["kind"]) for each in messages] == [(2, "second"), (3, "end")]


@pytest.mark.parametrize("leave", [lambda socket: socket.close(), lambda socket: socket.send_str("hello")])
async def test_a_listener_that_leaves_or_talks_ends_its_websocket(leave: Callable[[Any], Any]) -> None:
    async with kept(Log()) as (log, http), http.ws_connect(log.address + LOG.path) as socket:
        await leave(socket)
        await log.left.wait()


def test_an_entry_is_one_block() -> None:
    block = told(Event(7, "said", 1.0, {"words": "\n\r\n\u2028"}))

    assert block.count(b"\n") == 4
    assert b"\r" not in block
    assert block.startswith(b"id: 7\nevent: said\ndata: {")
