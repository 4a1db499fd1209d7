"""What every call meets before and after its handler."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable

import aiohttp
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from grid.client.calls import Calls
from grid.transport.app import GATE
from grid.wire.message import MSGPACK
from grid.wire.problems import BadRequest, Full, GridError, NotAllowed, NotAuthenticated
from tests.transport.daemon import BROKEN, ECHO, FULL, OWNED, PICK, PRIVATE, Daemon, Heard, Pick, Words

MakeCalls = Callable[..., Calls]


async def test_a_stranger_may_call_what_anyone_may(daemon: Daemon, calls: MakeCalls) -> None:
    assert await calls().call(daemon.address, ECHO, Words("hello")) == Heard("hello", "anonymous")


async def test_a_stranger_is_asked_who_calls(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{daemon.address}/v1/private/x", json={"said-words": "hello"}) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, problem["type"]) == (401, "urn:grid:problem:not-authenticated")
    assert "Session" in response.headers["WWW-Authenticate"]


async def test_a_session_names_its_caller(daemon: Daemon, calls: MakeCalls) -> None:
    heard = await calls(daemon.alice).call(daemon.address, PRIVATE, Words("hello"), name="a name/with?all&that")

    assert heard == Heard("hello", "session", daemon.alice.id)


async def test_only_the_owner_may_call_what_is_the_owners(daemon: Daemon, calls: MakeCalls) -> None:
    assert (await calls(daemon.owner).call(daemon.address, OWNED)).owner
    assert (await calls(token="open sesame").call(daemon.address, OWNED)).kind == "token"
    with pytest.raises(NotAllowed):
        await calls(daemon.alice).call(daemon.address, OWNED)
    with pytest.raises(NotAuthenticated):
        await calls(token="open says me").call(daemon.address, OWNED)


async def test_a_wrong_proof_is_refused_where_none_is_asked(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    wrong = {"Authorization": "Session AAAAAAAAAAAAAAAAAAAAAA.1." + "A" * 43}
    async with http.post(f"{daemon.address}/echo", json={"said-words": "hello"}, headers=wrong) as response:
        assert response.status == 401
        assert b"session-unknown" in await response.read()


async def test_a_problem_says_when_to_come_back(daemon: Daemon, calls: MakeCalls) -> None:
    with pytest.raises(Full, match="no room") as caught:
        await calls().call(daemon.address, FULL)

    assert caught.value.retry_after == 2.5


async def test_retry_after_is_a_header_in_whole_seconds(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{daemon.address}/v1/full") as response:
        assert response.headers["Retry-After"] == "3"


async def test_an_unforeseen_error_tells_its_cause_to_the_log_alone(
    daemon: Daemon, calls: MakeCalls, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(GridError) as caught:
        await calls().call(daemon.address, BROKEN)

    assert type(caught.value) is GridError
    assert "secret" not in caught.value.detail
    assert "a secret" in caplog.text


async def test_unknown_paths_and_methods_are_problems(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{daemon.address}/nowhere") as response:
        assert (response.status, b"urn:grid:problem:not-found" in await response.read()) == (404, True)
    async with http.get(f"{daemon.address}/echo") as response:
        assert (response.status, response.headers["Allow"]) == (405, "POST")
        assert b"urn:grid:problem:method-not-allowed" in await response.read()


async def test_old_paths_may_end_with_a_slash(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{daemon.address}/identity/") as response:
        assert (await response.json())["node-id"] == "small"


async def test_query_parameters_are_typed(daemon: Daemon, calls: MakeCalls) -> None:
    assert await calls().call(daemon.address, PICK, query=Pick(3, "a&b=c", loud=True)) == Heard(
        "A&B=C", "anonymous", size=3
    )


@pytest.mark.parametrize("query", ["count=many", "colour=red", "count=1&count=2"])
async def test_a_bad_query_is_refused(daemon: Daemon, http: aiohttp.ClientSession, query: str) -> None:
    async with http.get(f"{daemon.address}/pick?{query}") as response:
        assert (response.status, BadRequest.slug.encode() in await response.read()) == (400, True)


async def test_messagepack_is_answered_where_it_is_asked_for(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    headers = {"Accept": MSGPACK, "Content-Type": MSGPACK}
    async with http.post(f"{daemon.address}/echo", data=b"\x81\xaasaid-words\xa2hi", headers=headers) as response:
        heard = ECHO.decode_reply(await response.read(), MSGPACK)

    assert heard == Heard("hi", "anonymous")


async def test_a_daemon_describes_itself(daemon: Daemon, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{daemon.address}/openapi.json") as response:
        description = json.loads(await response.read())

    OpenAPIV31SpecValidator(description).validate()
    assert description["info"]["title"] == "A small daemon"
    assert {"/echo", "/health-check", "/v1/session", "/openapi.json"} <= description["paths"].keys()


async def test_a_draining_daemon_says_so(daemon: Daemon, calls: MakeCalls, http: aiohttp.ClientSession) -> None:
    daemon.app[GATE].draining = True

    async with http.post(f"{daemon.address}/echo", json={"said-words": "hello"}) as response:
        assert (response.status, b"draining" in await response.read()) == (503, True)
    async with http.get(f"{daemon.address}/health-check") as response:
        assert (await response.json())["status"] == "draining"
