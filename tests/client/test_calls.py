"""Calls to a small daemon, and to what only looks like one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from grid.client.calls import Calls
from grid.crypto.identity import Identity
from grid.wire.problems import BadSignature, NotAuthenticated, SessionUnknown, Unreachable
from grid.wire.session import IDENTITY
from tests.transport.daemon import ECHO, GET, PRIVATE, PUT, Daemon, Words

MakeCalls = Callable[..., Calls]


async def blocks(count: int, size: int = 100_000) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(size)


class Impostor:
    """A server that gives the same answer to everything."""

    def __init__(self, answer: web.Response | None = None) -> None:
        self.answer, self.asked = answer, 0

    async def respond(self, _: web.Request) -> web.StreamResponse:
        self.asked += 1
        if self.answer is None:
            await asyncio.Event().wait()
        assert self.answer is not None
        return self.answer


async def ask(http: aiohttp.ClientSession, answer: web.Response | None, **options: float) -> Impostor:
    app, impostor = web.Application(), Impostor(answer)
    app.router.add_route("*", "/{tail:.*}", impostor.respond)
    async with TestServer(app) as server:
        await Calls(http).call(str(server.make_url("")), IDENTITY, **options)  # type: ignore[arg-type]
    return impostor


async def test_one_session_serves_many_calls(daemon: Daemon, calls: MakeCalls) -> None:
    alice = calls(daemon.alice)
    said = [alice.call(daemon.address, PRIVATE, Words(str(n)), name="x") for n in range(50)]

    heard = await asyncio.gather(*said)

    assert [each.words for each in heard] == [str(n) for n in range(50)]
    assert len(daemon.auth) == 1


async def test_a_session_that_the_daemon_forgot_is_opened_again(daemon: Daemon, calls: MakeCalls) -> None:
    alice = calls(daemon.alice)
    await alice.call(daemon.address, PRIVATE, Words("before"), name="x")
    daemon.auth._sessions.clear()

    said = [alice.call(daemon.address, PRIVATE, Words("after"), name="x") for _ in range(5)]
    assert {each.words for each in await asyncio.gather(*said)} == {"after"}
    assert len(daemon.auth) == 1


async def test_an_upload_begins_once_the_daemon_knows_the_session(daemon: Daemon, calls: MakeCalls) -> None:
    alice = calls(daemon.alice)
    await alice.call(daemon.address, PRIVATE, Words("before"), name="x")
    daemon.auth._sessions.clear()

    assert (await alice.upload(daemon.address, PUT, blocks(20), length=2_000_000, name="x")).size == 2_000_000


async def test_a_session_is_renewed_before_it_ends(daemon: Daemon, calls: MakeCalls) -> None:
    alice = calls(daemon.alice)
    await alice.call(daemon.address, PRIVATE, Words("before"), name="x")
    daemon.clock += 999

    assert (await alice.call(daemon.address, PRIVATE, Words("after"), name="x")).words == "after"


async def test_a_pinned_key_must_answer(daemon: Daemon, calls: MakeCalls) -> None:
    alice, other = calls(daemon.alice), Identity.from_seed(bytes([9]) * 32)

    assert await alice.call(daemon.address, ECHO, Words("hello"), peer=daemon.identity.public)
    with pytest.raises(BadSignature):
        await alice.call(daemon.address, ECHO, Words("hello"), peer=other.public)


async def test_a_call_may_be_signed_where_nobody_asks(daemon: Daemon, calls: MakeCalls) -> None:
    alice = calls(daemon.alice)

    assert (await alice.call(daemon.address, ECHO, Words("hello"))).kind == "anonymous"
    assert (await alice.call(daemon.address, ECHO, Words("hello"), sign=True)).caller == daemon.alice.id


async def test_without_an_identity_nothing_is_sent_that_needs_one(calls: MakeCalls) -> None:
    with pytest.raises(NotAuthenticated):
        await calls().call("http://127.0.0.1:1", PRIVATE, Words("hello"), name="x")


async def test_nobody_there_is_unreachable(calls: MakeCalls, unused_tcp_port: int) -> None:
    with pytest.raises(Unreachable, match=str(unused_tcp_port)):
        await calls().call(f"http://127.0.0.1:{unused_tcp_port}", IDENTITY)


async def test_an_answer_has_a_deadline(http: aiohttp.ClientSession) -> None:
    with pytest.raises(Unreachable, match="in time"):
        await ask(http, None, deadline=0.05)


async def test_an_answer_has_a_limit(http: aiohttp.ClientSession) -> None:
    with pytest.raises(Unreachable, match="larger"):
        await ask(http, web.Response(body=bytes(2000)), limit=1000)


async def test_redirects_lead_nowhere(http: aiohttp.ClientSession) -> None:
    with pytest.raises(Unreachable, match="307"):
        await ask(http, web.Response(status=307, headers={"Location": "http://169.254.169.254/"}))


async def test_a_compressed_answer_is_not_inflated(http: aiohttp.ClientSession) -> None:
    with pytest.raises(Unreachable, match="compressed"):
        await ask(http, web.Response(body=b"\x1f\x8b", headers={"Content-Encoding": "gzip"}))


async def test_cookies_are_not_kept(http: aiohttp.ClientSession) -> None:
    with pytest.raises(Unreachable):
        await ask(http, web.Response(text="no", headers={"Set-Cookie": "a=b"}))

    assert not list(http.cookie_jar)


async def test_a_source_that_fails_keeps_its_own_error(daemon: Daemon, calls: MakeCalls) -> None:
    async def source() -> AsyncIterator[bytes]:
        yield bytes(1000)
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        await calls(daemon.alice).upload(daemon.address, PUT, source(), length=2000, name="x")


async def test_a_refused_upload_is_not_even_read(daemon: Daemon, calls: MakeCalls) -> None:
    read = False

    async def source() -> AsyncIterator[bytes]:
        nonlocal read
        read = True
        yield bytes(1000)

    alice = calls(daemon.alice)
    with pytest.raises(NotAuthenticated):
        await calls(token="wrong").upload(daemon.address, PUT, source(), length=1000, name="x")

    assert not read
    assert await alice.call(daemon.address, ECHO, Words("and on we go"))


async def test_a_download_has_a_limit(daemon: Daemon, calls: MakeCalls) -> None:
    async with calls().download(daemon.address, GET, name="open-400000", limit=300_000) as (_, parts):
        with pytest.raises(Unreachable, match="larger"):
            [part async for part in parts]


async def test_a_reader_may_leave_a_download(daemon: Daemon, calls: MakeCalls) -> None:
    alice = calls()
    async with alice.download(daemon.address, GET, name="sized-20000000") as (_, parts):
        assert await anext(parts)

    assert await alice.call(daemon.address, ECHO, Words("and on we go"))


async def test_a_daemon_that_forgets_at_once_is_not_asked_for_ever(daemon: Daemon, calls: MakeCalls) -> None:
    daemon.auth._lifetime = 6.0
    alice = calls(daemon.alice)
    forget = daemon.auth.open_session
    daemon.auth.open_session = lambda offer: (forget(offer), daemon.auth._sessions.clear())[0]  # type: ignore[method-assign]

    with pytest.raises(SessionUnknown):
        await alice.call(daemon.address, PRIVATE, Words("hello"), name="x")
